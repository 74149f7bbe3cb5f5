"""A sound as a picture: its waveform above its spectrogram."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

WIDTH, WAVE, HEIGHT = 256, 48, 128
"""Least width of the picture, and heights of waveform and spectrogram, in pixels."""
PER_SECOND, WIDEST = 64, 4096
"""Width of a second of a long sound, and the largest width, in pixels."""
FLOOR = -80.0
"""Level that is drawn black, in decibels of a sine of full scale; 0 is brightest."""

_COLOURS = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
_INK, _PAPER = (90, 60, 160), (255, 255, 255)


def draw_sound(sound: Float[Tensor, "c n"], sample_rate: int) -> Image.Image:
    """The waveform, and below it the level of each frequency over time, low frequencies at the bottom.

    Frequencies are spaced as the ear hears them (mel), from 0 to half the sampling rate.

    Args:
        sound: Waveform in [-1, 1]; of two channels the mean is drawn.
        sample_rate: Samples per second.
    """
    from PIL import Image

    mono = sound.float().mean(dim=0).cpu()
    width = min(max(WIDTH, round(PER_SECOND * len(mono) / sample_rate)), WIDEST)
    levels = mel_levels(mono, sample_rate, width, HEIGHT)
    brightness = ((levels - FLOOR) / -FLOOR).clamp(0, 1).flip(0).numpy()
    stops = np.linspace(0, 1, len(_COLOURS))
    planes = [np.interp(brightness, stops, [colour[i] for colour in _COLOURS]) for i in range(3)]
    spectrogram = np.stack(planes, axis=-1)
    picture = np.concatenate([_waveform(mono.numpy(), width), spectrogram])
    return Image.fromarray(np.rint(picture).astype(np.uint8))


def mel_levels(sound: Float[Tensor, " n"], sample_rate: int, columns: int, rows: int) -> Float[Tensor, "rows columns"]:
    """Levels in decibels at times spread over the sound, for frequencies spaced by the mel scale.

    A row is the loudest of the frequencies that lie nearer to it than to the others, or, where there are none, that
    between its neighbours.
    """
    length = 1024 if sample_rate <= 24_000 else 2048
    window = torch.hann_window(length)
    padded = torch.nn.functional.pad(sound, (length // 2, length // 2))
    hop = max(1, len(sound) // columns)
    frames = padded.unfold(0, length, hop)[:columns]
    magnitude = torch.fft.rfft(frames * window).abs() * (2 / window.sum())
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, rows + 1) / 2595) - 1) * length / sample_rate
    picked = []
    for low, high in pairwise(edges):
        first, last = int(np.ceil(low)), int(np.ceil(high))
        if first < last:
            picked.append(magnitude[:, first:last].amax(dim=1))
        else:
            below, share = int(low), (low + high) / 2 - int(low)
            picked.append(torch.lerp(magnitude[:, below], magnitude[:, below + 1], float(share)))
    levels = 20 * torch.stack(picked).clamp_min(1e-9).log10()
    if levels.shape[1] < columns:  # a sound of fewer samples than columns
        levels = torch.nn.functional.interpolate(levels[None], columns)[0]
    return levels


def _waveform(sound: np.ndarray, width: int) -> np.ndarray:
    """Smallest to largest sample of each column, as a picture of shape ``[WAVE, width, 3]``."""
    at = np.linspace(0, len(sound), width + 1).astype(int)
    picture = np.full((WAVE, width, 3), _PAPER, np.float64)
    for column, (start, stop) in enumerate(pairwise(at)):
        part = sound[start : max(stop, start + 1)]
        high, low = ((1 - np.clip(v, -1, 1)) / 2 * (WAVE - 1) for v in (part.max(), part.min()))
        picture[int(high) : int(np.ceil(low)) + 1, column] = _INK
    return picture
