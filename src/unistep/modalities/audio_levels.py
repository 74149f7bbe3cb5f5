"""Levels of bands of a sound over time, as feature networks see sounds."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

_FRAME = 0.128  # seconds: the narrowest bands are a third of a semitone at C3 wide, and need long frames
_HOP = 0.032  # seconds from frame to frame
_LOWEST = 98.0  # Hz, of the bands
_BANDS = 24  # in an octave
_FLOOR = 1e-4  # -80 dB of a sine of full scale


class BandLevels(nn.Module):
    """Levels of bands half a semitone apart, 0 for silence and 1 for a sine of full scale; of two channels their mean.

    Args:
        sample_rate: Samples per second of the sounds.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop, self.frame = round(_HOP * sample_rate), 2 * round(_FRAME * sample_rate / 2)
        self.register_buffer("window", torch.hann_window(self.frame), persistent=False)
        self.register_buffer("bank", bands(sample_rate, self.frame), persistent=False)

    def forward(self, sounds: Float[Tensor, "b c n"]) -> Float[Tensor, "b 1 bands frames"]:
        """Levels over time of waveforms in [-1, 1]."""
        mono = sounds.mean(dim=1)
        spectrum = torch.stft(mono, self.frame, self.hop, window=self.window, pad_mode="constant", return_complex=True)
        magnitude = self.bank @ (spectrum.abs() * (2 / self.window.sum()))
        return (1 + (magnitude.clamp_min(_FLOOR).log10() / -math.log10(_FLOOR)))[:, None]


def bands(sample_rate: int, frame: int) -> Float[Tensor, "bands bins"]:
    """Triangular filters on the bins of a spectrum, equally spaced in pitch and never narrower than a bin."""
    count = int(_BANDS * math.log2(sample_rate / 2 / _LOWEST))
    centre = _LOWEST * 2 ** (torch.arange(count, dtype=torch.float64) / _BANDS)
    width = (centre * (2 ** (1 / _BANDS) - 1)).clamp_min(sample_rate / frame)
    bins = torch.arange(frame // 2 + 1, dtype=torch.float64) * sample_rate / frame
    return (1 - (bins - centre[:, None]).abs() / width[:, None]).clamp_min(0).float()
