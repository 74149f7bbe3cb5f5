"""A small network that classifies instrument and pitch of a note; generated notes are evaluated on its features."""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unistep.evaluation.conv_trunk import ConvTrunk
from unistep.evaluation.feature_nets import PixelFeatures
from unistep.evaluation.features import StagedNetwork
from unistep.modalities.audio_levels import BandLevels

KIND = "notes"
"""What the architecture of a saved network of this kind says it is."""


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
class NoteFeatures(StagedNetwork):
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
        self.shape: tuple[int, ...] = (1, samples)
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
        self.trunk = ConvTrunk(1, (len(self.levels.bank), 1 + samples // self.levels.hop), channels)
        self.project = nn.Linear(self.trunk.size, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(0.2)
        self.instrument = nn.Linear(dim, len(instruments))
        self.pitch = nn.Linear(dim, pitches)

    def forward(self, sounds: Float[Tensor, "b c n"]) -> Float[Tensor, "b dim"]:
        """Features of waveforms in [-1, 1]."""
        return nn.functional.silu(self.norm(self.project(self.trunk(self.levels(sounds)).flatten(1))))

    def stages(self, signals: Float[Tensor, "b c n"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps of the three stages, bands by frames."""
        return self.trunk.stages(self.levels(signals))

    def logits(self, sounds: Float[Tensor, "b c n"]) -> tuple[Float[Tensor, "b i"], Float[Tensor, "b p"]]:
        """Scores of instruments and of pitches."""
        return self.scores(self(sounds))

    def scores(self, features: Float[Tensor, "b dim"]) -> tuple[Float[Tensor, "b i"], Float[Tensor, "b p"]]:
        """Scores of instruments and of pitches from features."""
        dropped = self.drop(features)
        return self.instrument(dropped), self.pitch(dropped)
