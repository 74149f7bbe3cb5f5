"""Writing sounds, or pictures of them, so that a file is there whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unistep.modalities import writing as output
from unistep.modalities.audio_reading import libraries, quantise

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
"""Sound files by how their name ends: container and code."""
SOUNDS = output.Endings(
    noun="sounds",
    all=(*FORMATS, *output.FORMATS, ".npz"),
    usual=".wav, .flac, .ogg, .npz, .png, .jpg, .webp",
    example="out.wav",
    numbered=".wav",
)
"""Sounds, arrays of them, and pictures of them."""
GAP = 0.25
"""Seconds of silence between sounds in one file."""

_AT_ONCE = 2**16  # samples that libsndfile gets: of millions, its Vorbis encoder overflows the stack


def check(path: str | Path) -> None:
    """Find out whether sounds can be written to ``path``, leaving nothing there.

    Raises:
        ValueError: If not, with the reason.
    """
    output.check_path(path, SOUNDS)
    if output.is_folder(path) or Path(path).suffix.lower() in FORMATS:
        libraries()


def write(sounds: np.ndarray, sample_rate: int, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
    """Write sounds ``[n, c, samples]``, float32 in [-1, 1], in the format that the name says.

    Raises:
        ValueError: If they cannot be written.
    """
    check(path)
    suffix = Path(path).suffix.lower()
    if output.is_folder(path):
        writers = [partial(_write_wav, quantise(sound.T), sample_rate) for sound in sounds]
        output.fill_folder(writers, path, ".wav")
    elif suffix in output.FORMATS:
        output.write_picture(_picture(sounds, sample_rate), path)
    else:
        output.write_whole(path, lambda file: file.write(encode(sounds, sample_rate, suffix, labels=labels)))


def encode(sounds: np.ndarray, sample_rate: int, suffix: str, *, labels: Sequence[int] | None = None) -> bytes:
    """The bytes of one file of sounds ``[n, c, samples]``, float32 in [-1, 1].

    Args:
        sounds: The samples.
        sample_rate: Samples per second.
        suffix: How the name of such a file ends.
        labels: Classes, shape ``[n]``, for ``.npz``.

    Raises:
        ValueError: If a picture of them is too large for its format.
    """
    if suffix == ".npz":
        return output.encode_npz(quantise(sounds), labels, sample_rate=np.asarray(sample_rate))
    if suffix in FORMATS:
        return _encoded(quantise(join(sounds, sample_rate)), sample_rate, suffix)
    return output.encode_picture(_picture(sounds, sample_rate), suffix)


def _picture(sounds: np.ndarray, sample_rate: int) -> Image.Image:
    import torch

    from unistep.modalities.audio_preview import draw_sound
    from unistep.modalities.contact_sheet import draw_grid

    pictures = [draw_sound(torch.from_numpy(sound), sample_rate) for sound in sounds]
    return pictures[0] if len(pictures) == 1 else draw_grid(pictures)


def _encoded(samples: np.ndarray, sample_rate: int, suffix: str) -> bytes:
    """A sound file, in memory: libsndfile itself says of a full disk no more than that something failed."""
    soundfile, _ = libraries()
    container, code = FORMATS[suffix]
    content = BytesIO()
    with soundfile.SoundFile(content, "w", sample_rate, samples.shape[1], code, format=container) as file:
        for start in range(0, len(samples), _AT_ONCE):
            file.write(samples[start : start + _AT_ONCE])
    return content.getvalue()


def _write_wav(samples: np.ndarray, sample_rate: int, path: Path) -> None:
    path.write_bytes(_encoded(samples, sample_rate, ".wav"))


def join(sounds: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sounds ``[n, c, samples]`` one after the other, with silence between them, ``[length, c]``."""
    silence = np.zeros((round(GAP * sample_rate), sounds.shape[1]), sounds.dtype)
    pieces = [piece for sound in sounds for piece in (sound.T, silence)]
    return np.concatenate(pieces[:-1])
