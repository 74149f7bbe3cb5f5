"""CSV files of numbers to arrays, and back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unistep.modalities.unusable import UnusableFileError


def read_rows(path: Path, columns: int) -> np.ndarray:
    """The rows of a file, float32 ``[rows, columns]``; a first row that is no row of numbers is a header.

    Raises:
        UnusableFileError: If it is no CSV file of so many columns, with the row that is not.
    """
    rows: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, cells in enumerate(csv.reader(file), start=1):
                if not cells:
                    continue
                row = _numbers(cells)
                if row is None:
                    if rows or number > 1:
                        raise UnusableFileError(f"row {number} is not a row of numbers")
                    continue
                if len(row) != columns:
                    raise UnusableFileError(f"row {number} has {len(row)} columns, not {columns}; see --data.columns")
                rows.append(row)
    except OSError as error:
        raise UnusableFileError(f"cannot be read: {error.strerror}", recognised=False) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableFileError("not a CSV file", recognised=False) from error
    found = np.array(rows, np.float32).reshape(-1, columns)
    if not np.isfinite(found).all():
        raise UnusableFileError("has values that are not numbers")
    return found


def to_csv(windows: np.ndarray) -> str:
    """Windows ``[n, channels, rows]`` as a table, one below the other; several are numbered in the first column."""
    several = len(windows) > 1
    names = [f"channel {i}" for i in range(windows.shape[1])]
    lines = [",".join(["window", *names] if several else names)]
    for number, window in enumerate(windows):
        first = [str(number)] if several else []
        lines += [",".join([*first, *(f"{value:.6g}" for value in row)]) for row in window.T]
    return "\n".join(lines) + "\n"


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None
