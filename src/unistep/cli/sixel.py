"""Pictures in a terminal in pixels: the sixel graphics of DEC's VT340, which many terminals show.

A picture is a string of bands of six rows. A character has a bit for each of the six rows, 63 above its number in
ASCII; ``!n`` before it repeats it, ``#n`` chooses a colour, and ``$`` goes back to the beginning of the band.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

BEGIN, END = "\033P7;1;0q", "\033\\"
"""What a picture begins with (square pixels; what is not drawn stays as it is), and what it ends with."""
COLOURS = 128
"""Colours of a picture, chosen for each."""

_ANY = "\0"


def encoded(indices: Int[np.ndarray, "h w"], palette: UInt8[np.ndarray, "n 3"], *, times: int = 1) -> str:
    """A picture as a string that a terminal draws where its cursor is.

    Each of its rows is drawn from left to right in a pass of its own through each band in which it lies, so that a
    colour is chosen once for each run of pixels.

    Args:
        indices: The colour of each pixel; of pixels below 0 nothing is drawn.
        palette: The colours.
        times: How many times each pixel is drawn, in both directions.
    """
    height, width = indices.shape
    hundredths = (palette.astype(int) * 100 + 127) // 255
    used = np.unique(indices[indices >= 0]).tolist()
    parts = [BEGIN, f'"1;1;{width * times};{height * times}']
    parts += [f"#{i};2;" + ";".join(map(str, hundredths[i].tolist())) for i in used]
    rows = [_row(row, times) for row in indices]
    for top in range(0, height * times, 6):
        bits: dict[int, int] = {}
        for bit, y in enumerate(range(top, min(top + 6, height * times))):
            bits[y // times] = bits.get(y // times, 0) | 1 << bit
        parts.append("$".join(rows[row].replace(_ANY, chr(63 + mask)) for row, mask in bits.items()))
        parts.append("-")
    return "".join([*parts[:-1], END])


def _row(row: Int[np.ndarray, " w"], times: int) -> str:
    """A row as it is drawn in any band, with a mark where the character for its bits there comes."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(row)) + 1])
    lengths = np.diff(np.concatenate([starts, [len(row)]])) * times
    parts = []
    for colour, n in zip(row[starts].tolist(), lengths.tolist(), strict=True):
        mark = _ANY if colour >= 0 else "?"
        parts.append(f"#{colour}" if colour >= 0 else "")
        parts.append(f"!{n}{mark}" if n > 3 else mark * n)
    return "".join(parts)


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
    indices = np.asarray(few).astype(np.int16)
    palette = np.frombuffer(bytes(few.getpalette() or []), np.uint8).reshape(-1, 3)
    return encoded(indices, palette, times=times), (indices.shape[0] * times, indices.shape[1] * times)
