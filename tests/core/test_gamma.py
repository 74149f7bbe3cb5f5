"""Sampling from a two-time map, where the exact one is known: Gaussian data on every path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analytic import PATHS, GaussianFlow
from unistep.core.flowmap import ConsistencyModel, FlowMap
from unistep.core.path import Path
from unistep.core.sampling import sample_gamma, sample_multistep, trace_gamma
from unistep.core.timesteps import karras_grid

MEAN, STD = 0.3, 0.7


class ExactFlow(FlowMap):
    """The flow map of Gaussian data; it notes from where to where it was asked to jump."""

    def __init__(self, path: Path, boundary: float | None = None) -> None:
        super().__init__(nn.Identity(), path, 0.5, boundary)
        self.exact = GaussianFlow(path, MEAN, STD, boundary).requires_grad_(False)
        self.jumps: list[tuple[float, float]] = []

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        s = torch.full_like(t, self.boundary) if s is None else s
        self.jumps.append((float(t[0]), float(s[0])))
        return self.exact(x, t, s)


def noise(num: int = 4, size: int = 5) -> Tensor:
    return torch.randn(num, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def grid_of(path: Path, steps: int) -> Tensor:
    """Times whose noise to signal ratios are dense near the data, from the path's start."""
    start = min(float(path.ratio(torch.tensor(path.t_max))), 1e3)
    times = path.time_at(karras_grid(steps, 0.05, start).double())
    times[0] = path.t_max
    return times


@pytest.mark.parametrize("boundary", [None, 0.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_without_fresh_noise_jumps_of_the_exact_map_make_one_jump(
    path: Path, steps: int, boundary: float | None
) -> None:
    flow, z = ExactFlow(path, boundary), noise()
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    got = sample_gamma(flow, z, grid_of(path, steps), generator=generator)
    start = torch.full((len(z),), path.t_max, dtype=torch.float64)
    whole = flow.exact(path.sigma(start)[:, None] * z, start, torch.full_like(start, flow.boundary))
    torch.testing.assert_close(got, whole, rtol=1e-9, atol=1e-9)
    assert torch.equal(generator.get_state(), before)  # nothing was drawn


def test_without_fresh_noise_the_jumps_join_the_times_of_the_grid(path: Path) -> None:
    flow, grid = ExactFlow(path, 0.0), grid_of(path, 4)
    sample_gamma(flow, noise(), grid)
    ends = [*grid.tolist(), 0.0]
    for (t, s), start, end in zip(flow.jumps, ends[:-1], ends[1:], strict=True):
        assert t == pytest.approx(start)
        assert s == pytest.approx(end)


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_with_fresh_noise_the_exact_map_keeps_the_law_of_the_data(path: Path, gamma: float) -> None:
    flow, grid = ExactFlow(path), grid_of(path, 4)
    z = noise(40_000, 2)
    trace = list(trace_gamma(flow, z, grid, gamma=gamma, generator=torch.Generator().manual_seed(1)))
    assert len(trace) == len(grid)
    # After each jump but the last the signal has the law of the next time, after the last that of the boundary.
    for x, t in zip(trace, [*grid[1:], torch.tensor(flow.boundary, dtype=torch.float64)], strict=True):
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        std = ((alpha * STD) ** 2 + sigma**2) ** 0.5
        assert float(x.mean()) == pytest.approx(alpha * MEAN, abs=0.02 * std)
        assert float(x.std()) == pytest.approx(std, rel=0.015)
    # How much of the first noise is left: each renewal keeps what the next, lower ratio keeps of the signal before it.
    kept = 1.0
    for (_, s), following in zip(flow.jumps[:-1], grid[1:], strict=True):
        before, after = (STD**2 + float(path.ratio(u.double())) ** 2 for u in (torch.tensor(s), following))
        kept *= (before / after) ** 0.5
    assert kept < 0.8
    correlation = torch.corrcoef(torch.stack([trace[-1].flatten(), z.flatten()]))[0, 1]
    assert float(correlation) == pytest.approx(kept, abs=0.015)


def test_half_fresh_noise_aims_at_the_lower_noise_to_signal_ratio(path: Path) -> None:
    flow, grid = ExactFlow(path), grid_of(path, 3)
    sample_gamma(flow, noise(), grid, gamma=0.5)
    for (_, s), following in zip(flow.jumps[:-1], grid[1:], strict=True):
        ratio = float(path.ratio(torch.tensor(s, dtype=torch.float64)))
        assert ratio == pytest.approx(0.75**0.5 * float(path.ratio(following)), rel=1e-6)


@pytest.mark.parametrize("boundary", [None, 0.0])
@pytest.mark.parametrize("name", sorted(PATHS))
def test_all_fresh_noise_is_multistep_sampling(name: str, boundary: float | None) -> None:
    path = PATHS[name]
    consistency: ConsistencyModel = GaussianFlow(path, MEAN, STD, boundary)
    grid, z = grid_of(path, 4), noise()
    ours = sample_gamma(ExactFlow(path, boundary), z, grid, gamma=1.0, generator=torch.Generator().manual_seed(3))
    theirs = sample_multistep(consistency, z, grid, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_outside_zero_to_one_is_refused(gamma: float) -> None:
    path = PATHS["ve"]
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got"):
        sample_gamma(ExactFlow(path), noise(), grid_of(path, 2), gamma=gamma)
