"""Signals as the bytes of files and frames, marked as made by a model."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from unistep.provenance import Provenance, mark_content

if TYPE_CHECKING:
    from torch import Tensor

    from unistep.modalities.base import Modality

PICTURES = ("jpeg", "webp", "png")
"""Formats of the frames of a live stream."""
QUALITY = 85
"""Of jpeg and webp frames, from 0 to 100."""


def encode(
    modality: Modality, signal: Tensor, format: str, provenance: Provenance | None, quality: int | None = None
) -> bytes:
    """One signal as a file.

    Args:
        modality: What it is.
        signal: The signal, as long as it is.
        format: One of the modality's :attr:`~unistep.modalities.base.Modality.media_types`.
        provenance: Where it comes from; ``None`` for an unmarked file.
        quality: Of formats that lose something, from 0 to 100; the modality's own without.

    Raises:
        ValueError: If there is no such format.
    """
    shape = tuple(signal.shape)
    modality = modality if shape == modality.shape else modality.part(shape)
    if quality is None or format not in PICTURES[:2]:
        return mark_content(modality.encode(signal[None], format), f".{format}", provenance)
    from PIL import Image

    picture = Image.open(BytesIO(modality.encode(signal[None], "png")))
    content = BytesIO()
    picture.save(content, format.upper(), quality=quality)
    return mark_content(content.getvalue(), f".{format}", provenance)


def frame_bytes(pictures: np.ndarray, format: str, quality: int = QUALITY) -> bytes:
    """One frame of a stream as a small picture.

    Args:
        pictures: The frame, uint8 ``[h, w, 3]``.
        format: One of :data:`PICTURES`.
        quality: Of jpeg and webp.
    """
    from PIL import Image

    content = BytesIO()
    options = {"quality": quality, "method": 0} if format == "webp" else {"quality": quality}
    options = {"compress_level": 1} if format == "png" else options
    Image.fromarray(pictures).save(content, format.upper(), **options)
    return content.getvalue()


def pcm(modality: Modality, signal: Tensor) -> bytes:
    """A sound as 16-bit samples, little-endian, channels in turn."""
    return modality.stream_output.to_bytes(signal)


def wav_header(rate: int, channels: int, samples: int | None = None) -> bytes:
    """The beginning of a WAV file whose samples follow.

    Args:
        rate: Samples a second.
        channels: Channels.
        samples: Samples of each channel; unknown, as of a stream, without, and where there are more than the format
            can say.
    """
    most = 0xFFFFFFFF - 36
    size = most if samples is None else min(2 * channels * samples, most)
    parts = [b"RIFF", (size + 36).to_bytes(4, "little"), b"WAVEfmt ", (16).to_bytes(4, "little")]
    numbers = ((1, 2), (channels, 2), (rate, 4), (rate * channels * 2, 4), (channels * 2, 2), (16, 2))
    parts += [number.to_bytes(size, "little") for number, size in numbers]
    return b"".join([*parts, b"data", size.to_bytes(4, "little")])
