"""A small network that classifies instrument and pitch of a note; generated notes are evaluated on its features."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.evaluation.feature_nets import ConvNorm, PixelFeatures

KIND = "notes"
"""What the architecture of a saved network of this kind says it is."""

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


@final
class SpectrumFeatures(nn.Module):
    """Levels of bands on fixed random directions: a cross-check that no learned weight can flatter, for any sounds.

    Args:
        shape: Channels and samples.
        sample_rate: Samples per second.
        dim: Largest number of directions.
    """

    def __init__(self, shape: tuple[int, ...], sample_rate: int, dim: int = 64) -> None:
        super().__init__()
        self.levels = BandLevels(sample_rate)
        bands, frames = self.levels(torch.zeros(1, *shape)).shape[2:]
        self.project = PixelFeatures((1, bands, frames), dim)

    def forward(self, sounds: Float[Tensor, "b c n"]) -> Float[Tensor, "b dim"]:
        """Coordinates of the levels of waveforms in [-1, 1]."""
        return self.project(self.levels(sounds))


@final
class NoteFeatures(nn.Module):
    """A convolutional classifier of instrument and pitch on levels of bands half a semitone apart.

    Args:
        sample_rate: Samples per second of the sounds.
        samples: Their length.
        channels: Width of each stage; each halves the resolution.
        dim: Number of features.
        instruments: Names of the instruments that it classifies.
        lowest: Lowest pitch that it classifies, as a MIDI number.
        pitches: Number of pitches.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        samples: int,
        channels: tuple[int, ...],
        dim: int,
        instruments: tuple[str, ...],
        lowest: int,
        pitches: int,
    ) -> None:
        super().__init__()
        self.architecture: dict[str, Any] = {
            "kind": KIND,
            "sample_rate": sample_rate,
            "samples": samples,
            "channels": list(channels),
            "dim": dim,
            "instruments": list(instruments),
            "lowest": lowest,
            "pitches": pitches,
        }
        self.instruments, self.lowest = tuple(instruments), lowest
        self.levels = BandLevels(sample_rate)
        rows, columns, last = len(self.levels.bank), 1 + samples // self.levels.hop, 1
        layers: list[nn.Module] = []
        for width in channels:
            layers += [ConvNorm(last, width, stride=2), ConvNorm(width, width, stride=1)]
            last, rows, columns = width, (rows + 1) // 2, (columns + 1) // 2
        self.trunk = nn.Sequential(*layers)
        self.project = nn.Linear(last * rows * columns, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(0.2)
        self.instrument = nn.Linear(dim, len(instruments))
        self.pitch = nn.Linear(dim, pitches)

    def forward(self, sounds: Float[Tensor, "b c n"]) -> Float[Tensor, "b dim"]:
        """Features of waveforms in [-1, 1]."""
        return nn.functional.silu(self.norm(self.project(self.trunk(self.levels(sounds)).flatten(1))))

    def logits(self, sounds: Float[Tensor, "b c n"]) -> tuple[Float[Tensor, "b i"], Float[Tensor, "b p"]]:
        """Scores of instruments and of pitches."""
        return self.scores(self(sounds))

    def scores(self, features: Float[Tensor, "b dim"]) -> tuple[Float[Tensor, "b i"], Float[Tensor, "b p"]]:
        """Scores of instruments and of pitches from features."""
        dropped = self.drop(features)
        return self.instrument(dropped), self.pitch(dropped)


def bands(sample_rate: int, frame: int) -> Float[Tensor, "bands bins"]:
    """Triangular filters on the bins of a spectrum, equally spaced in pitch and never narrower than a bin."""
    count = int(_BANDS * math.log2(sample_rate / 2 / _LOWEST))
    centre = _LOWEST * 2 ** (torch.arange(count, dtype=torch.float64) / _BANDS)
    width = (centre * (2 ** (1 / _BANDS) - 1)).clamp_min(sample_rate / frame)
    bins = torch.arange(frame // 2 + 1, dtype=torch.float64) * sample_rate / frame
    return (1 - (bins - centre[:, None]).abs() / width[:, None]).clamp_min(0).float()
