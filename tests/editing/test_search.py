"""The search finds what a score was made of, and first guesses are smooth."""

from __future__ import annotations

import math

import pytest
import torch

from unistep.editing.filling import smooth_fill
from unistep.editing.noise import estimate_sigma
from unistep.editing.search import search_settings
from unistep.editing.solvers import Settings
from unistep.editing.tasks.interpolate import slerp
from unistep.modalities.layout import Layout


def test_the_search_finds_the_best_of_a_smooth_score() -> None:
    """With two parameters that depend on each other, from a beginning on the wrong side of a valley."""

    def score(s: Settings) -> float:
        return -((math.log(s.first / 6) - s.estimated) ** 2) - (s.estimated + 0.9) ** 2 - math.log(s.last / 0.9) ** 2

    shares: list[float] = []
    found, best = search_settings(score, Settings(first=40.0, last=0.1, estimated=0.8), 4, progress=shares.append)
    assert found.estimated == pytest.approx(-0.9, abs=0.11)
    assert found.first == pytest.approx(6 * math.exp(-0.9), rel=0.3)
    assert found.last == pytest.approx(0.9, rel=0.3)
    assert best == score(found)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_one_call_has_neither_a_last_level_nor_estimated_noise() -> None:
    tried: list[Settings] = []

    def score(s: Settings) -> float:
        tried.append(s)
        return -s.first

    found, _ = search_settings(score, Settings(first=8.0), 1, least_first=2.0, rounds=1)
    assert {s.estimated for s in tried} == {0.0}
    assert len({s.last for s in tried}) == 1
    assert found.first == 2.0
    assert len(tried) == len(set(tried))  # nothing is measured twice
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        search_settings(score, Settings(), 1, rounds=0)


def test_a_fill_keeps_what_is_known_and_a_plane_nearly(generator: torch.Generator) -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 28), indexing="ij")
    plane = (0.4 * x - 0.3 * y).expand(2, 3, 32, 28)
    known = torch.ones(1, 1, 32, 28, dtype=torch.bool)
    known[..., 10:20, 8:18] = False
    filled = smooth_fill(torch.where(known, plane, 0), known, (2, 3))
    assert torch.equal(torch.where(known, filled, 0), torch.where(known, plane, 0))
    assert float((filled - plane).abs().max()) < 0.1
    constant = smooth_fill(torch.where(known, 0.7, 0.0).expand(1, 1, 32, 28), known, (2, 3))
    torch.testing.assert_close(constant, torch.full((1, 1, 32, 28), 0.7))
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    assert smooth_fill(torch.randn(1, 1, 8, 8, generator=generator), nothing, (2, 3)).abs().max() == 0


def test_frames_between_are_filled_from_both_sides() -> None:
    clip = torch.zeros(1, 1, 5, 4, 4)
    clip[:, :, 4] = 1
    known = torch.zeros(1, 1, 5, 1, 1, dtype=torch.bool)
    known[:, :, [0, 4]] = True
    filled = smooth_fill(clip, known, (2, 3, 4)).mean(dim=(0, 1, 3, 4))
    assert (filled.diff() >= 0).all()
    assert filled.tolist()[2] == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((3, 64, 64), Layout(colours=True, space=(2, 3))), ((1, 16_000), Layout(time=2, rate=16_000, waveform=True))],
)
@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_noise_on_a_smooth_signal_is_estimated(shape, layout, sigma: float, generator: torch.Generator) -> None:
    smooth = 0.4 * torch.linspace(-3, 3, shape[-1]).sin().expand(2, *shape)
    noisy = smooth + sigma * torch.randn(2, *shape, generator=generator)
    assert estimate_sigma(noisy, layout).tolist() == pytest.approx([sigma, sigma], rel=0.1)


def test_noise_of_what_has_no_neighbours_is_not_estimated() -> None:
    with pytest.raises(ValueError, match="neither space nor time; give sigma"):
        estimate_sigma(torch.zeros(1, 3, 4), Layout())


def test_slerp_has_both_ends_and_the_size_of_noise_between(generator: torch.Generator) -> None:
    a, b = torch.randn(2, 1, 3, 64, 64, generator=generator)
    walk = slerp(a[None], b[None], torch.linspace(0, 1, 5))
    torch.testing.assert_close(walk[[0, -1]], torch.stack([a, b]), atol=1e-5, rtol=1e-5)
    assert walk.flatten(1).std(dim=1).tolist() == pytest.approx([1] * 5, abs=0.03)
    torch.testing.assert_close(slerp(a[None], a[None], torch.tensor([0.5])), a[None], atol=1e-3, rtol=1e-3)
