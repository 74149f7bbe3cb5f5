"""Pictures of clips: a film strip of each, and several that move side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

STRIP = 8
"""Most frames of a clip that its film strip shows."""
SIDE = 512
"""Length up to which tiny clips are enlarged where several are shown together, in pixels."""
MOST = 4
"""Largest enlargement."""

_GAP = 2  # pixels between clips
_LINE = 96  # grey of the line between frames


def film_strip(clip: np.ndarray) -> Image.Image:
    """Frames of a clip side by side, evenly spaced, the first and the last among them.

    Args:
        clip: Pixels, uint8 ``[c, frames, h, w]``.
    """
    from PIL import Image

    count = clip.shape[1]
    some = sorted({round(i * (count - 1) / max(1, min(STRIP, count) - 1)) for i in range(min(STRIP, count))})
    line = np.full((clip.shape[0], clip.shape[2], 1), _LINE, np.uint8)
    row = np.concatenate([part for i in some for part in (line, clip[:, i])][1:], axis=2)
    return Image.fromarray(np.ascontiguousarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0)))


def side_by_side(clips: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Clips that move together, in reading order on a white ground, tiny ones enlarged without smoothing.

    Args:
        clips: Pixels, uint8 ``[n, c, frames, h, w]``; a single one is left as it is.
        columns: Clips in a row; nearly square by default.

    Returns:
        Pixels, uint8 ``[c, frames, h, w]``.
    """
    n, channels, frames, height, width = clips.shape
    if n == 1:
        return clips[0]
    across = min(n, columns or math.ceil(math.sqrt(n)))
    down = math.ceil(n / across)
    scale = max(1, min(MOST, SIDE // max(across * width, down * height)))
    if scale > 1:
        clips = clips.repeat(scale, axis=3).repeat(scale, axis=4)
    high, wide = height * scale + _GAP, width * scale + _GAP
    sheet = np.full((channels, frames, down * high + _GAP, across * wide + _GAP), 255, np.uint8)
    for i, clip in enumerate(clips):
        top, left = _GAP + i // across * high, _GAP + i % across * wide
        sheet[:, :, top : top + high - _GAP, left : left + wide - _GAP] = clip
    return sheet
