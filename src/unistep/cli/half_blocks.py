"""Pictures in a terminal: each character is the upper half of a square, so that it has two pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8

Colours = Literal["true", "256"]
"""Colours of a terminal: all, or the 256 of xterm."""

_LEVELS = np.array([0, 95, 135, 175, 215, 255])  # of xterm's cube of 6 x 6 x 6 colours


def fitted(picture: UInt8[np.ndarray, "h w 3"], columns: int, rows: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A picture in the size of a terminal: enlarged by a whole number without smoothing, or shrunk.

    Args:
        picture: The pixels.
        columns: Characters in a row.
        rows: Rows that there are.
    """
    height, width = picture.shape[:2]
    scale = min(max(columns, 1) / width, 2 * max(rows, 1) / height)
    if scale >= 1:
        large = picture.repeat(int(scale), axis=0).repeat(int(scale), axis=1)
    else:
        from PIL import Image

        size = max(1, int(width * scale)), max(1, int(height * scale))
        large = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    return large if large.shape[0] % 2 == 0 else np.concatenate([large, np.zeros_like(large[:1])])


def cells_of(picture: UInt8[np.ndarray, "h w 3"], colours: Colours) -> Int[np.ndarray, "rows columns 2 values"]:
    """The colours of each character, upper and lower half: red, green and blue, or a number of xterm's."""
    halves = picture.reshape(len(picture) // 2, 2, picture.shape[1], 3).transpose(0, 2, 1, 3)
    return halves.astype(int) if colours == "true" else _xterm(halves.astype(int))[..., None]


def drawn(cells: np.ndarray, before: np.ndarray | None, *, top: int = 1, left: int = 1) -> str:
    """What turns the terminal from showing ``before`` to showing ``cells``: only what changes is written.

    Args:
        cells: As :func:`cells_of` gives them.
        before: Those that the terminal shows; ``None`` where it shows none.
        top: Row of the first, from 1.
        left: Column of the first, from 1.
    """
    same = before is not None and before.shape == cells.shape
    changed = (cells != before).any(axis=(2, 3)) if same else np.ones(cells.shape[:2], dtype=bool)
    parts: list[str] = []
    kinds = ("38;2;", "48;2;") if cells.shape[3] == 3 else ("38;5;", "48;5;")
    last: list[list[int]] | None = None
    for row in np.flatnonzero(changed.any(axis=1)).tolist():
        after = -1
        line = cells[row].tolist()
        for column in np.flatnonzero(changed[row]).tolist():
            if column != after:
                parts.append(f"\033[{top + row};{left + column}H")
            cell = line[column]
            if cell != last:
                upper, lower = (kind + ";".join(map(str, half)) for kind, half in zip(kinds, cell, strict=True))
                parts.append(f"\033[{upper};{lower}m")
                last = cell
            parts.append("▀")
            after = column + 1
    return "".join(parts)


def _xterm(rgb: np.ndarray) -> np.ndarray:
    """The nearest of xterm's colours 16 to 255: the cube, or a grey where that is nearer."""
    steps = np.abs(rgb[..., None] - _LEVELS).argmin(-1)
    cube = 16 + 36 * steps[..., 0] + 6 * steps[..., 1] + steps[..., 2]
    grey = np.clip((rgb.mean(-1) - 8) / 10, 0, 23).round().astype(int)
    apart = np.square(rgb - _LEVELS[steps]).sum(-1), np.square(rgb - (8 + 10 * grey)[..., None]).sum(-1)
    return np.where(apart[1] < apart[0], 232 + grey, cube)
