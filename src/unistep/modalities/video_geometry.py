"""Decoded frames brought upright and to one size, scaled while they are converted to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from unistep.modalities.video_options import Fit

TURNED = "turned upright by its display matrix"
"""Remark on a video that a camera has marked as turned or mirrored."""
ENLARGED = "smaller than wanted: enlarged"
"""Remark on a video of fewer pixels than the clips have."""
_HD = 720  # rows from which an unmarked video has the colours of ITU-R BT.709, as players have it


@dataclass(frozen=True, kw_only=True)
class FrameSize:
    """The rule by which frames become pixels of one size."""

    height: int
    """Rows wanted."""
    width: int
    """Columns wanted."""
    channels: int
    """1 for grey, 3 for RGB."""
    fit: Fit
    """Rule for frames of another shape."""
    background: str
    """Colour around padded frames."""

    def pixels(self, frame: Any, aspect: Fraction = Fraction(1)) -> np.ndarray:
        """The pixels of one of PyAV's frames, uint8 ``[c, h, w]``.

        It is scaled by FFmpeg with a Lanczos filter, antialiased, with its chroma at full resolution, so that what
        comes out is within two levels of what Pillow makes of the whole frame, at a tenth of the time. Pixels that are
        not square become so; frames that are marked as turned or mirrored are brought upright.

        Args:
            frame: The frame.
            aspect: Width of one of its pixels relative to the height.
        """
        swaps, flip_x, flip_y = _orientation(frame)
        height, width = (self.width, self.height) if swaps else (self.height, self.width)
        wide, high = self._scaled(frame.width * aspect, Fraction(frame.height), width, height)
        array = _converted(frame, wide, high, self.channels)
        array = self._placed(array, height, width)
        array = array.transpose(1, 0, 2) if swaps else array
        array = array[:, ::-1] if flip_x else array
        array = array[::-1] if flip_y else array
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    def notes(self, frame: Any) -> tuple[str, ...]:
        """Remarks on what is done to frames such as this one."""
        found = (TURNED,) if _orientation(frame) != (False, False, False) else ()
        smaller = min(frame.width, frame.height) < min(self.width, self.height)
        return (*found, ENLARGED) if smaller else found

    def _scaled(self, own_width: Fraction, own_height: Fraction, width: int, height: int) -> tuple[int, int]:
        """Width and height that the whole frame is scaled to, as it lies in the file."""
        if self.fit == "stretch":
            return width, height
        across, down = width / own_width, height / own_height
        scale = max(across, down) if self.fit == "crop" else min(across, down)
        found = max(1, round(own_width * scale)), max(1, round(own_height * scale))
        if self.fit == "crop":
            return max(width, found[0]), max(height, found[1])
        return min(width, found[0]), min(height, found[1])

    def _placed(self, array: np.ndarray, height: int, width: int) -> np.ndarray:
        """The middle of ``array``, or ``array`` in the middle of the background."""
        high, wide = array.shape[:2]
        if (high, wide) == (height, width):
            return array
        if high >= height and wide >= width:
            top, left = (high - height) // 2, (wide - width) // 2
            return array[top : top + height, left : left + width]
        canvas = np.empty((height, width, self.channels), np.uint8)
        canvas[:] = _colour(self.background, self.channels)
        top, left = (height - high) // 2, (width - wide) // 2
        canvas[top : top + high, left : left + wide] = array
        return canvas


def _converted(frame: Any, width: int, height: int, channels: int) -> np.ndarray:
    """The pixels of the whole frame at another size, ``[h, w, c]``."""
    from av.video.reformatter import Colorspace, Interpolation

    # Without full chroma, scaling to a small size would take every second column's colour from its neighbour.
    how = Interpolation.LANCZOS | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    how |= Interpolation.ACCURATE_RND
    known = frame.colorspace in tuple(Colorspace) or frame.height < _HD
    scaled = frame.reformat(
        width=width,
        height=height,
        format="gray" if channels == 1 else "rgb24",
        src_colorspace=None if known else Colorspace.ITU709,
        interpolation=how,
        threads=1,
    )
    array = scaled.to_ndarray()
    return array[..., None] if array.ndim == 2 else array


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Whether axes must be swapped, and then columns and rows reversed, to show a frame upright.

    The display matrix maps a point of the stored frame to one of the shown frame, ``x' = a x + c y``,
    ``y' = b x + d y``, in 16.16 fixed point; it is rounded to the nearest of the eight ways a frame can lie.
    """
    from av.sidedata.sidedata import Type

    found = frame.side_data.get(Type.DISPLAYMATRIX)
    if found is None:
        return False, False, False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(found)[:20], "<i4"))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _colour(name: str, channels: int) -> tuple[int, ...]:
    from PIL import Image

    colour = Image.new("RGB", (1, 1), name).convert("L" if channels == 1 else "RGB").getpixel((0, 0))
    return colour if isinstance(colour, tuple) else (int(colour or 0),)
