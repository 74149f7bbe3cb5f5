"""What a player did in the recordings of a folder: tables beside the videos, one row for each frame."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unistep.core.action_fields import PRESET, ActionField
from unistep.data.action_files import HELD, TEXTS, read_actions
from unistep.data.sources.listing import Entry, has_suffix
from unistep.modalities.recording import Recording
from unistep.modalities.unusable import UnusableFileError

ACTIONS = "actions.csv"
"""Name of the table of the only video of a folder; ``a.csv`` is that of ``a.mp4``."""
FIELD = "action"
"""The condition."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """The tables of a folder's videos."""

    field: ActionField
    """What all of them have."""
    tables: dict[str, Entry]
    """The table of each video by the name of the video's entry."""


def find_tables(entries: Sequence[Entry], suffixes: frozenset[str]) -> dict[str, Entry]:
    """The table of each video that has one.

    Args:
        entries: All files of the folder.
        suffixes: How names of videos end.
    """
    found_tables = [(os.path.splitext(entry.name), entry) for entry in entries if not entry.trouble]
    known = {f"{stem}.csv": entry for (stem, suffix), entry in found_tables if suffix.lower() == ".csv"}
    videos = [entry.name for entry in entries if has_suffix(entry.name, suffixes)]
    places = [os.path.dirname(name) for name in videos]
    found = {}
    for name, place in zip(videos, places, strict=True):
        candidates = [f"{os.path.splitext(name)[0]}.csv"]
        candidates += [os.path.join(place, ACTIONS)] if places.count(place) == 1 else []
        table = next((known[candidate] for candidate in candidates if candidate in known), None)
        if table is not None:
            found[name] = table
    return found


def played(path: Path, entries: Sequence[Entry], suffixes: frozenset[str]) -> Played | None:
    """The tables of a folder, or ``None`` where no video has one.

    Raises:
        ValueError: If some videos have one and others do not, or they have not the same columns.
    """
    tables = find_tables(entries, suffixes)
    if not tables:
        return None
    without = [e.name for e in entries if has_suffix(e.name, suffixes) and not e.trouble and e.name not in tables]
    if without:
        raise ValueError(
            f"{path}: {without[0]} has no table of actions, and {next(iter(tables))} has one; add "
            f"{os.path.splitext(without[0])[0]}.csv, one row a frame, or move it elsewhere"
        )
    return Played(field=infer_field([path / table.name for table in tables.values()]), tables=tables)


def infer_field(paths: Sequence[Path]) -> ActionField:
    """The field of the actions in tables: their controls, the ranges of their values, and a name for each.

    A column of numbers is a control, whose presets are its largest value, under its name, and where there are negative
    ones its smallest, as ``NAME-back``. Of texts such as ``left+gas`` each word is a control, 0 or 1.

    Args:
        paths: The tables.

    Raises:
        ValueError: If one cannot be read, or they have not the same columns.
    """
    names: tuple[str, ...] | None = None
    columns: dict[str, list[tuple[Path, str]]] = {}
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                table = csv.DictReader(file, skipinitialspace=True)
                found = tuple(name.strip() for name in table.fieldnames or () if name and name.strip() != HELD)
                if not found:
                    raise ValueError(f"{path} is empty; expected a header with the names of the controls")
                if names not in (None, found):
                    raise ValueError(f"{path} has the columns {', '.join(found)}, and {paths[0]} {', '.join(names)}")
                names = found
                for row in table:
                    for name, value in row.items():
                        columns.setdefault(str(name).strip(), []).append((path, str(value or "").strip()))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no CSV file: {error}") from None
    if names == (TEXTS,):
        return _of_words(columns.get(TEXTS, []))
    return _of_numbers({name: columns.get(name, []) for name in names or ()})


def _of_words(cells: Sequence[tuple[Path, str]]) -> ActionField:
    found = set[str]()
    for path, text in cells:
        for word in (word.strip().lower() for word in text.split("+")):
            if word and not re.fullmatch(PRESET, word):
                raise ValueError(
                    f"{path}: {TEXTS} must be a word such as left, or several joined by +, got {word!r}; for numbers "
                    "name a column for each control"
                )
            found.add(word)
    words = sorted(found - {"", "none"}) or ["go"]
    one = dict.fromkeys(words, 0.0)
    presets = {word: tuple({**one, word: 1.0}.values()) for word in words}
    return ActionField(names=tuple(words), low=(0.0,) * len(words), high=(1.0,) * len(words), presets=presets)


def _of_numbers(columns: dict[str, list[tuple[Path, str]]]) -> ActionField:
    low, high, presets = [], [], dict[str, tuple[float, ...]]()
    for name, cells in columns.items():
        numbers = [_number(path, name, cell) for path, cell in cells]
        low.append(min([0.0, *numbers]))
        high.append(max([0.0, *numbers]))
        if low[-1] == high[-1]:
            high[-1] = 1.0  # never used
    place = range(len(columns))
    for i, name in enumerate(columns):
        word = _word(name, presets)
        presets[word] = tuple(high[i] if j == i else 0.0 for j in place)
        if low[i] < 0:
            presets[f"{word}-back"] = tuple(low[i] if j == i else 0.0 for j in place)
    return ActionField(names=tuple(columns), low=tuple(low), high=tuple(high), presets=presets)


def _number(path: Path, name: str, cell: str) -> float:
    try:
        number = float(cell or 0)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{path}: {name} must be a number in each row, got {cell!r}")
    return number


def _word(name: str, taken: Container[str]) -> str:
    """What the preset of a column is called: its name in small letters, with signs that presets may have."""
    word = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")
    word = word if re.fullmatch(PRESET, word) and word != "none" else f"control-{word}".rstrip("-")
    while word in taken or f"{word}-back" in taken:
        word += "-"
    return word


def with_actions(found: Recording, length: int, path: Path, field: ActionField) -> Recording:
    """A recording each of whose windows has the actions of its frames.

    Where the video was brought to a lower rate, an action is the mean of those since the frame before. Windows then
    begin where the grid has them, also in training, and the whole file is read.

    Args:
        found: What was read of the video.
        length: Frames of a window.
        path: The table.
        field: The controls.

    Raises:
        UnusableFileError: If the table cannot be read, or has another number of rows than the video has frames.
    """
    try:
        rows = read_actions(path, field, known=found.moments).numpy()
    except ValueError as error:
        raise UnusableFileError(f"its actions: {error}") from None
    if abs(len(rows) - found.moments) > 1:
        raise UnusableFileError(
            f"has {found.moments:,} frames, and {path.name} {len(rows):,} rows; expected one row for each frame"
        )
    assert found.shown is not None
    actions = resampled(rows, found.shown())
    windows = tuple({FIELD: actions[start : start + length]} for start in found.starts)
    return replace(found, conditions=windows, slack=0, seek=None)


def resampled(rows: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The actions of the frames that are shown: of each the mean of those since the one that is shown before it.

    Args:
        rows: The action of each frame of the video, ``[frames, size]``.
        shown: Numbers of the frames that are shown, in order, some perhaps several times.
    """
    shown = np.minimum(shown, len(rows) - 1)  # a table may lack the last one
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    first = np.minimum(np.concatenate([[shown[0]], shown[:-1] + 1]), shown)
    return ((sums[shown + 1] - sums[first]) / (shown + 1 - first)[:, None]).astype(np.float32)
