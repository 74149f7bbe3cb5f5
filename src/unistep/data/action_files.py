"""What a player did, frame by frame, from a table or from a short text."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.action_fields import ActionField
from unistep.files import checked_path
from unistep.spelling import nearest_hint

TEXTS, HELD = "action", "frames"
"""The column of actions as texts, such as ``left+gas``; the one that says for how many frames a row is held."""
MOST_FRAMES = 10_000_000
"""More frames than this are taken for a mistake: four days at 25 a second."""


def read_actions(path: str | Path, spec: ActionField, *, known: int = 0) -> Float[Tensor, "frames size"]:
    """The actions of a CSV file with a header, one row for each frame.

    A column has the name of a control, and controls without a column stay 0; or the one column ``action`` has texts,
    such as ``left+gas``. A column ``frames`` says for how many frames a row is held. In a frame whose cells are all
    empty nothing is done; at the end, where spreadsheets leave some, such rows are none beyond ``known`` frames.

    Args:
        path: The file.
        spec: The controls.
        known: Frames that there are, of a recording.

    Raises:
        ValueError: If it cannot be read, with the line, the column and what was expected.
    """
    try:
        with checked_path(path).open(newline="", encoding="utf-8-sig") as file:
            # Without the lines that are blank: of one column, an empty cell is written as "".
            table = csv.reader(
                ("\n" if not line.strip() else line for line in file), skipinitialspace=True, strict=True
            )
            columns = [column.strip() for column in next(table, [])]
            _check_columns(path, columns, spec)
            rows, total, idle = [], 0, 0
            for cells in table:
                if not any(cell.strip() for cell in cells):
                    idle += bool(cells)  # a blank line is no row
                    continue
                rows.append(torch.zeros(idle, spec.size))
                total, idle = total + idle, 0
                where = f"{path}, line {table.line_num}"
                if len(cells) != len(columns):
                    raise ValueError(f"{where}: expected {_counted(len(columns), 'value')}, got {len(cells)}")
                row = dict(zip(columns, cells, strict=True))
                held = 1 if HELD in spec.names else _held(where, row.pop(HELD, "1"))
                total = _checked_total(where, total + held)
                rows.append(_action(where, row, spec).expand(held, -1))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no row under its header; expected one for each frame")
    return torch.cat([*rows, torch.zeros(min(idle, max(0, known - total)), spec.size)])


def parse_actions(text: str, spec: ActionField) -> Float[Tensor, "frames size"]:
    """The actions of a text such as ``gas*50,left+gas*20,none*10``: what is done, and for how many frames.

    Args:
        text: Actions with commas; one without a number is held for one frame.
        spec: The controls.

    Raises:
        ValueError: Naming the part that does not fit.
    """
    rows, total = [], 0
    for number, part in enumerate(text.split(","), start=1):
        words, star, count = part.partition("*")
        where = f"part {number} of the script, {part.strip()!r}"
        if not words.strip():
            raise ValueError(f"{where}: expected an action, such as none or {next(iter(spec.presets), '0')}")
        held = _held(where, count) if star else 1
        total = _checked_total(where, total + held)
        rows.append(_named(where, words, spec).expand(held, -1))
    return torch.cat(rows)


def _check_columns(path: str | Path, columns: list[str], spec: ActionField) -> None:
    """The header must name known columns, each once, and something that is done."""
    known = (*spec.names, *(name for name in (TEXTS, HELD) if name not in spec.names))
    twice = next((column for column in columns if columns.count(column) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}, line 1: the column {twice!r} is there twice")
    for column in columns:
        if column not in known:
            hint = nearest_hint(column, known)
            raise ValueError(f"{path}, line 1: no control {column!r}; expected {', '.join(known)}{hint}")
    controls = [column for column in columns if column in spec.names]
    texts = TEXTS in columns and TEXTS not in spec.names
    if bool(controls) == texts:
        both = "both" if texts else "neither"
        raise ValueError(f"{path}, line 1: expected columns for {', '.join(spec.names)} or {TEXTS}, got {both}")


def _action(where: str, row: dict[str, str], spec: ActionField) -> Tensor:
    if TEXTS in row and TEXTS not in spec.names:
        return _named(where, row[TEXTS], spec)
    numbers = []
    for name, low, high in zip(spec.names, spec.low, spec.high, strict=True):
        cell = row.get(name, "0").strip()
        try:
            value = float(cell or 0)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"{where}: {name} must be a number from {low:g} to {high:g}, got {cell!r}")
        numbers.append(value)
    return torch.tensor(numbers)


def _named(where: str, text: str, spec: ActionField) -> Tensor:
    try:
        return spec.action(TEXTS, text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _held(where: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"{where}: {HELD} must be a whole number from 1, got {text.strip()!r}")
    return int(text)


def _checked_total(where: str, total: int) -> int:
    if total > MOST_FRAMES:
        raise ValueError(f"{where}: {total:,} frames so far are more than {MOST_FRAMES:,}; stop earlier")
    return total


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
