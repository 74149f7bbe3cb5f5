"""Pictures in a terminal in pixels: the sixel graphics of DEC's VT340, which many terminals show.

A picture is a string of bands of six rows. In each, every colour draws its pixels in one pass from left to right: a
character has a bit for each of the six rows, 63 above its number in ASCII, and ``!n`` before it repeats it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

BEGIN, END = "\033P7;1;0q", "\033\\"
"""What a picture begins with (square pixels; what is not drawn stays as it is), and what it ends with."""
COLOURS = 128
"""Colours of a picture, chosen for each."""

_BITS = 1 << np.arange(6)


def encoded(indices: Int[np.ndarray, "h w"], palette: UInt8[np.ndarray, "n 3"], *, across: int = 1) -> str:
    """A picture as a string that a terminal draws where its cursor is.

    Args:
        indices: The colour of each pixel; of pixels below 0 nothing is drawn.
        palette: The colours.
        across: How many times each column is drawn.
    """
    height, width = indices.shape
    missing = -height % 6
    rows = np.concatenate([indices, np.full((missing, width), -1, indices.dtype)])
    parts = [BEGIN, f'"1;1;{width * across};{height}']
    hundredths = (palette.astype(int) * 100 + 127) // 255
    used = np.unique(indices[indices >= 0]).tolist()
    parts += [f"#{i};2;" + ";".join(map(str, hundredths[i].tolist())) for i in used]
    for band in rows.reshape(-1, 6, width):
        colours = np.unique(band[band >= 0])
        bits = ((band == colours[:, None, None]) * _BITS[:, None]).sum(axis=1)
        parts.append("$".join(f"#{i}{_line(row, across)}" for i, row in zip(colours.tolist(), bits, strict=True)))
        parts.append("-")
    return "".join([*parts[:-1], END])


def _line(bits: np.ndarray, across: int) -> str:
    """The characters of one colour in one band, without those at the end that draw nothing."""
    ends = np.flatnonzero(np.diff(bits))
    starts = np.concatenate([[0], ends + 1])
    lengths = np.diff(np.concatenate([starts, [len(bits)]])) * across
    values = bits[starts].tolist()
    runs = list(zip(values, lengths.tolist(), strict=True))
    if runs[-1][0] == 0:
        runs.pop()
    return "".join(f"!{n}{chr(63 + value)}" if n > 3 else chr(63 + value) * n for value, n in runs)


def sixel(picture: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> tuple[str, tuple[int, int]]:
    """A picture in a number of pixels that there are: enlarged by a whole number without smoothing, or shrunk.

    Args:
        picture: The pixels.
        width: Pixels in a row of the terminal.
        height: Rows of pixels.

    Returns:
        The string, and height and width of what it draws.
    """
    from PIL import Image

    rows, columns = picture.shape[:2]
    scale = min(max(width, 1) / columns, max(height, 1) / rows)
    image = Image.fromarray(np.ascontiguousarray(picture))
    times = max(1, int(scale))
    if scale < 1:
        size = max(1, int(columns * scale)), max(1, int(rows * scale))
        image = image.resize(size, Image.Resampling.BOX)
    few = image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indices = np.asarray(few).astype(np.int16).repeat(times, axis=0)
    palette = np.frombuffer(bytes(few.getpalette() or []), np.uint8).reshape(-1, 3)
    return encoded(indices, palette, across=times), (indices.shape[0], indices.shape[1] * times)
