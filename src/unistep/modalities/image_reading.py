"""One picture file, of whatever kind and state, to 8-bit pixels of a given size; or the reason why not.

Files are only ever opened for reading. Pillow's guard against decompression bombs stays on.
"""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from unistep.modalities.unusable import UnusableFileError

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
"""How a picture of another shape is brought to the wanted one."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "QOI", "ICO")
"""Formats that are read; those that Pillow hands to another program (PostScript), or guesses, are not."""

SUFFIXES = frozenset(
    "." + ending
    for ending in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "mpo", "webp", "gif", "bmp", "dib", "tif", "tiff", "ico"),
        *("ppm", "pgm", "pbm", "pnm", "pfm", "jp2", "j2k", "jpx", "avif", "avifs", "qoi"),
    )
)
"""File names that claim to be one of them."""

MAX_PIXELS = 89_478_485
"""Most pixels that are decoded: Pillow's own limit. JPEG files are counted after their reduced decoding."""

_FAINT = 8.0  # floating-point pixels from 0 to less, but to more than 1, are of neither range, and would be black
_LARGE = 16_000_000  # pixels
_one_large = threading.Lock()  # several decoding threads hold one large picture at a time: memory stays bounded

_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}  # EXIF's orientation to Pillow's name of the operation that undoes it
_ON_ITS_SIDE = (5, 6, 7, 8)  # those that exchange height and width


class UnusablePictureError(UnusableFileError):
    """A file that gives no picture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """Pixels, and what had to be done to get them."""

    pixels: np.ndarray
    """Array of shape ``[c, h, w]``, uint8."""
    notes: tuple[str, ...] = ()
    """Remarks worth counting, such as "animated: first frame used"."""

    @property
    def values(self) -> np.ndarray:
        """What a cache keeps: the pixels."""
        return self.pixels


def decode(
    file: Path | bytes,
    *,
    size: tuple[int, int],
    channels: Literal[1, 3] = 3,
    fit: Fit = "crop",
    background: str = "white",
) -> Picture:
    """Read a picture and bring it to shape ``[channels, *size]``.

    The first frame is taken, turned upright by its EXIF tag, brought to 8 bits (16-bit values divided by 257, floating
    point in [0, 1] multiplied by 255), laid on ``background`` where transparent, converted to grey (ITU-R 601) or RGB
    without regard to colour profiles, and resized by :func:`fit_picture`.

    Args:
        file: Path of the file, or its content.
        size: Height and width wanted, in pixels.
        channels: 1 for grey, 3 for RGB.
        fit: Rule for a picture of another shape.
        background: Colour behind transparent pixels and around padded pictures.

    Returns:
        The pixels, with remarks.

    Raises:
        UnusablePictureError: With the reason, for anything that is not a whole picture.
    """
    from PIL import Image

    if (len(file) if isinstance(file, bytes) else _file_size(file)) == 0:
        raise UnusablePictureError("empty file", recognised=False)
    try:
        opened = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_formats())
    except Image.DecompressionBombError:
        raise UnusablePictureError(f"more than {2 * MAX_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise UnusablePictureError("not a picture", recognised=False) from None
    except Exception as error:  # a header can be broken in any way; the reason goes into the summary
        raise UnusablePictureError(_reason(error), recognised=False) from error
    with opened as image:
        try:
            # Twice the wanted size leaves the resampling filter its say; only JPEG can do this.
            image.draft(None, (2 * size[1], 2 * size[0]))
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise UnusablePictureError(f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels")
            if pixels > _LARGE:
                with _one_large:
                    return _finish(image, size, channels, fit, background)
            return _finish(image, size, channels, fit, background)
        except UnusablePictureError:
            raise
        except Exception as error:  # so can its pixels
            raise UnusablePictureError(_reason(error)) from error


def header_shape(path: Path) -> tuple[int, int, int] | None:
    """Channels, height and width of a picture that is turned upright, without decoding it.

    ``None`` if its header cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_formats()) as image:
            # Pillow turns TIFF files itself, and says so of their size alone until they are loaded.
            lies = image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE
            grey = image.mode[0] in "1IF" or image.mode in ("L", "LA", "La")
            height, width = image.size if lies else image.size[::-1]
            return 1 if grey else 3, height, width
    except Exception:  # a header can be broken in any way; reading the file says how
        return None


def fit_picture(image: Image.Image, size: tuple[int, int], fit: Fit, background: str) -> Image.Image:
    """Resize with a Lanczos filter, antialiased.

    ``crop`` takes the largest centred part of the wanted shape; ``pad`` keeps the whole picture, as large as it can
    be, in the middle of ``background``; ``stretch`` ignores the shape. A picture of the right size is left as it is.

    Args:
        image: Picture of mode ``L`` or ``RGB``.
        size: Height and width wanted, in pixels.
        fit: The rule.
        background: Colour around a padded picture.
    """
    from PIL import Image

    height, width = size
    if image.size == (width, height):
        return image
    box, inner = (0, 0, image.width, image.height), (width, height)
    if fit == "crop":
        scale = min(image.width / width, image.height / height)
        part = max(1, round(scale * width)), max(1, round(scale * height))  # whole pixels: no edge lies outside
        left, top = (image.width - part[0]) // 2, (image.height - part[1]) // 2
        box = (left, top, left + part[0], top + part[1])
    elif fit == "pad":
        scale = min(width / image.width, height / image.height)
        inner = (
            min(width, max(1, round(image.width * scale))),
            min(height, max(1, round(image.height * scale))),
        )
    # The gap lets Pillow shrink very large pictures by whole factors first: as good, much faster.
    resized = image.resize(inner, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if inner == (width, height):
        return resized
    canvas = Image.new("RGB", (width, height), background).convert(image.mode)
    canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def to_planes(image: Image.Image) -> np.ndarray:
    """Pixels of a picture of mode ``L`` or ``RGB`` as an array of shape ``[c, h, w]``, uint8."""
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


@cache
def _formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that this build of Pillow reads."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _finish(image: Image.Image, size: tuple[int, int], channels: Literal[1, 3], fit: Fit, background: str) -> Picture:
    from PIL import Image

    notes = []
    image.load()
    if _has_more_frames(image):
        notes.append("animated: first frame used")
    upright = _UPRIGHT.get(_orientation(image))
    if upright:
        notes.append("turned upright by its EXIF tag")
    frame = image
    if image.mode == "CMYK":
        notes.append("CMYK: converted")
    elif image.mode.startswith(("I", "F")):
        frame = _eight_bits(image)
        notes.append("more than 8 bits: reduced")
        if image.mode != "F" and 255 < np.asarray(image).max() < 4096:
            notes.append("12 bits in a file of 16: nearly black; multiply the values by 16 first")
    if frame.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in frame.info:
        rgba = frame.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append(f"transparent: laid on {background}")
            canvas = Image.new("RGBA", rgba.size, background)
            canvas.alpha_composite(rgba)
            rgba = canvas
        frame = rgba.convert("RGB")
    if min(frame.size) < min(size):
        notes.append("smaller than wanted: enlarged")
    frame = frame.convert("L" if channels == 1 else "RGB")
    if upright:
        frame = frame.transpose(Image.Transpose[upright])
    return Picture(pixels=to_planes(fit_picture(frame, size, fit, background)), notes=tuple(notes))


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits, 32 bits or floating point as one of 8 bits; the value that is transparent stays so."""
    from PIL import Image

    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and (high <= 1 or _FAINT <= high <= 255)):  # NaN ends here too
            raise UnusablePictureError(f"floating-point pixels from {low:g} to {high:g}, wanted 0 to 1 or 0 to 255")
        scaled = values * (255.0 if high <= 1 else 1.0)
    else:
        if low < 0 or high > 65535:
            raise UnusablePictureError(f"32-bit pixels from {low} to {high}, wanted 0 to 65535")
        scaled = values / 257.0
    grey, clear = np.rint(scaled).astype(np.uint8), image.info.get("transparency")
    if not isinstance(clear, int):
        return Image.fromarray(grey)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


def _has_more_frames(image: Image.Image) -> bool:
    if image.format == "MPO":  # a photo with a preview or a second view beside it, not an animation
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a later frame is broken; only the first is used, and that one is loaded
        return True


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # a picture whose EXIF block is broken is still a picture: taken as it lies
        return 1


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UnusablePictureError(f"cannot be read: {error.strerror}", recognised=False) from error


def _reason(error: Exception) -> str:
    """One line for whatever a decoder raised."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated"
    return f"broken: {text[:120] or type(error).__name__}"
