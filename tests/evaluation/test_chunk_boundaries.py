"""Jumps at chunk boundaries: none where nothing happens, and all of them where a chunk is louder or another sound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unistep.evaluation.chunk_boundaries import Jumps, level_jumps, spectrum_jumps

CHUNK, HOP, CHUNKS = 8, 64, 6


def noise() -> Tensor:
    """Six chunks of noise, twice."""
    return 0.1 * torch.randn(2, CHUNKS * CHUNK * HOP, generator=torch.manual_seed(0))


def test_a_sound_without_boundaries_has_none() -> None:
    tone = 0.5 * torch.sin(2 * math.pi / 16 * torch.arange(CHUNKS * CHUNK * HOP))[None]
    for jumps in (level_jumps(tone, CHUNK, HOP), spectrum_jumps(tone, CHUNK, HOP)):
        assert float(jumps.boundaries.max()) < 0.01
        assert float(jumps.inside.max()) < 0.01
    for measure, each in ((level_jumps, 2), (spectrum_jumps, 1)):
        jumps = measure(noise(), CHUNK, HOP)
        assert len(jumps.boundaries) == 2 * (CHUNKS - 1) * each
        at_boundaries, inside = jumps.at(0.5)
        assert at_boundaries == pytest.approx(inside, rel=0.5)


def test_a_louder_chunk_is_a_jump_of_as_many_decibels() -> None:
    gain = 10 ** (torch.arange(CHUNKS) % 2 * 20 / 20).repeat_interleave(CHUNK * HOP)
    jumps = level_jumps(0.05 * gain[None], CHUNK, HOP)
    assert torch.allclose(jumps.boundaries.view(-1, 2)[:, 0], torch.tensor(20.0).double(), atol=0.01)  # as it begins
    assert float(jumps.inside.max()) < 0.01


def test_another_colour_is_a_jump_though_it_is_no_louder() -> None:
    n = torch.arange(CHUNK * HOP)
    voices = [0.5 * torch.sin(2 * math.pi / period * n) for period in (8, 16)]
    sound = torch.cat([voices[i % 2] for i in range(CHUNKS)])[None]
    assert level_jumps(sound, CHUNK, HOP).at(0.5) == pytest.approx((0, 0), abs=0.01)
    # The frames meet in the middle of the overlap, so that half a hop of the new chunk is in the frame before.
    at_boundaries, inside = spectrum_jumps(sound, CHUNK, HOP).at(0.5)
    assert at_boundaries > 3
    assert inside < 3


def test_shares() -> None:
    jumps = Jumps(boundaries=torch.arange(5.0), inside=torch.arange(11.0))
    assert jumps.at(0.5) == (2.0, 5.0)
    assert jumps.at(1.0) == (4.0, 10.0)
