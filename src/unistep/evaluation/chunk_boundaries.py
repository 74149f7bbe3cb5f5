r"""Whether the chunk boundaries of a stream are audible: how much the sound changes across them, and elsewhere.

With :math:`E_m` the energy of hop :math:`m`, of :math:`H` samples, the jump in level is
:math:`|10 \log_{10} E_{m+1} - 10 \log_{10} E_m|`, and with :math:`L_{k,m}` the levels in decibels of the frequencies of
a frame of :math:`2H` samples, the jump in spectrum is :math:`\mathrm{mean}_k |L_{k,m+1} - L_{k,m}|`. The frames of two
chunks overlap in the first hop after their boundary, so a jump in level may be at either end of that hop, and frames
for the spectrum meet in its middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = -70.0
"""Decibels of full scale below which level and spectrum are ignored, because such changes are inaudible."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Jumps:
    """Jumps in decibels, at chunk boundaries and inside chunks."""

    boundaries: Float[Tensor, " n"]
    """Those at chunk boundaries."""
    inside: Float[Tensor, " m"]
    """All others."""

    def at(self, share: float) -> tuple[float, float]:
        """Quantiles of the jumps at boundaries and of the others; 0.5 is the median."""
        return float(self.boundaries.quantile(share)), float(self.inside.quantile(share))


def level_jumps(sound: Float[Tensor, "b n"], chunk: int, hop: int) -> Jumps:
    """Jumps in level from hop to hop.

    Args:
        sound: Waveforms in [-1, 1], each starting with a chunk.
        chunk: Hops per chunk.
        hop: Samples per hop.
    """
    energy = sound.unfold(1, hop, hop).double().square().mean(dim=2)
    level = 10 * (energy + 10 ** (FLOOR / 10)).log10()
    after = torch.arange(1, level.shape[1])
    return _split(level.diff(dim=1).abs(), (after >= chunk) & (after % chunk <= 1))


def spectrum_jumps(sound: Float[Tensor, "b n"], chunk: int, hop: int) -> Jumps:
    """Jumps in spectrum from frame to frame; arguments as for :func:`level_jumps`, with an even number of hops."""
    length, half = 2 * hop, hop // 2
    frames = sound[:, half:].unfold(1, length, length).double()
    window = torch.hann_window(length, dtype=frames.dtype)
    power = (torch.fft.rfft(frames * window).abs() * (2 / window.sum())).square()
    level = 10 * (power + 10 ** (FLOOR / 10)).log10()
    after = 2 * torch.arange(1, level.shape[1])
    return _split(level.diff(dim=1).abs().mean(dim=2), after % chunk == 0)


def _split(jumps: Tensor, at_boundary: Tensor) -> Jumps:
    return Jumps(boundaries=jumps[:, at_boundary].flatten(), inside=jumps[:, ~at_boundary].flatten())
