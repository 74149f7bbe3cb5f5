"""Samplers of consistency models on data whose flow map is known, and the search for times."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from analytic import PATHS, GaussianFlow, WavyNet
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import Path, VarianceExploding
from unistep.core.sampling import sample_multistep, sample_one_step, trace_multistep
from unistep.core.seeding import ItemGenerators, normal
from unistep.core.time_search import search_times
from unistep.core.timesteps import karras_grid

VE = VarianceExploding()


def grid_of(path: Path, ratios: list[float]) -> Tensor:
    return path.time_at(torch.tensor(ratios))


def test_one_step_is_one_jump_from_the_largest_time(path: Path) -> None:
    flow, noise = GaussianFlow(path), torch.randn(5, 3)
    t = torch.full((5,), path.t_max)
    torch.testing.assert_close(sample_one_step(flow, noise), flow(path.sigma(t)[:, None] * noise, t))


def test_one_step_and_a_grid_of_one_agree(path: Path) -> None:
    model, noise = ConsistencyModel(WavyNet(), path), torch.randn(2, 1, 3)
    torch.testing.assert_close(
        sample_one_step(model, noise), sample_multistep(model, noise, torch.tensor([path.t_max]))
    )


@pytest.mark.parametrize("boundary", [None, 0.0])
@pytest.mark.parametrize("ratios", [[80.0], [80.0, 1.0], [80.0, 5.0, 0.5, 0.1]])
def test_samples_of_the_exact_map_follow_the_data(path: Path, ratios: list[float], boundary: float | None) -> None:
    """The noise that is added back has the right size for the law to be kept, whatever the path and the boundary."""
    flow = GaussianFlow(path, 0.3, 0.7, boundary)
    noise = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0))
    x = sample_multistep(flow, noise, grid_of(path, ratios), generator=torch.Generator().manual_seed(1))
    assert x.mean().item() == pytest.approx(0.3, abs=0.02)
    assert x.std().item() == pytest.approx(0.7, abs=0.015)


def test_multistep_is_algorithm_1_by_hand() -> None:
    """Song et al. 2023: x = f(x_T, T); x = f(x + sqrt(tau^2 - eps^2) z, tau), with an epsilon that is felt."""
    model = ConsistencyModel(WavyNet(), VarianceExploding(sigma_min=0.4))
    noise = torch.randn(2, 4)
    z = torch.randn(2, 4, generator=torch.Generator().manual_seed(7))
    x = model(80.0 * noise, torch.full((2,), 80.0))
    wanted = model(x + math.sqrt(0.8**2 - 0.4**2) * z, torch.full((2,), 0.8))
    got = sample_multistep(model, noise, torch.tensor([80.0, 0.8]), generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_noise_is_added_to_what_the_boundary_leaves(name: str) -> None:
    """With a boundary far from the data the samples follow the law of that time, after several steps as after one."""
    path = PATHS[name]
    end = path.time_at(torch.tensor([0.5])).item()
    flow = GaussianFlow(path, 0.3, 0.7, boundary=end)
    noise = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(0))
    time = torch.tensor([end])
    alpha, sigma = path.alpha(time).item(), path.sigma(time).item()
    for ratios in ([80.0], [80.0, 0.8], [80.0, 2.0, 0.6]):
        x = sample_multistep(flow, noise, grid_of(path, ratios), generator=torch.Generator().manual_seed(1))
        assert x.mean().item() == pytest.approx(0.3 * alpha, abs=0.02)
        assert x.std().item() == pytest.approx(math.sqrt((0.7 * alpha) ** 2 + sigma**2), rel=0.015)


def test_the_trace_yields_every_estimate_and_ends_at_the_sample() -> None:
    model, noise, grid = ConsistencyModel(WavyNet(), VE), torch.randn(2, 4), karras_grid(4, 0.1, 80.0)
    states = list(trace_multistep(model, noise, grid, generator=torch.Generator().manual_seed(0)))
    assert len(states) == 4
    torch.testing.assert_close(states[0], sample_one_step(model, noise))
    torch.testing.assert_close(
        states[-1], sample_multistep(model, noise, grid, generator=torch.Generator().manual_seed(0))
    )


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_sample_belongs_to_its_seed(name: str) -> None:
    path = PATHS[name]
    model, grid = ConsistencyModel(WavyNet(), path), grid_of(path, [80.0, 3.0, 0.4])

    def sample(seeds: list[int]) -> Tensor:
        generators = ItemGenerators(seeds)
        return sample_multistep(model, normal((len(seeds), 2, 5), generators), grid, generator=generators)

    together = sample([3, 9, 4])
    torch.testing.assert_close(sample([9])[0], together[1])
    torch.testing.assert_close(sample([4, 3])[1], together[0])
    assert not torch.allclose(together[0], together[1])


def test_the_condition_reaches_every_step() -> None:
    seen: list[object] = []

    class ConditionValue(GaussianFlow):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            seen.append(condition)
            return super().forward(x, t, s)

    condition = {"label": torch.tensor([1, 2])}
    sample_multistep(ConditionValue(VE), torch.randn(2, 1), torch.tensor([80.0, 1.0, 0.3]), condition)
    sample_one_step(ConditionValue(VE), torch.randn(2, 1), condition)
    assert len(seen) == 4
    assert all(c is condition for c in seen)


def test_one_step_draws_no_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    sample_multistep(GaussianFlow(VE), torch.randn(2, 1), torch.tensor([80.0]), generator=generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("best", [0.02, 0.3, 1.0, 6.0, 40.0])
def test_the_search_finds_the_valley_of_a_score(best: float) -> None:
    candidates = karras_grid(64, 0.002, 80.0)
    wanted = min(candidates.tolist(), key=lambda c: abs(math.log(c / best)))
    tried: list[tuple[float, ...]] = []

    def score(times: tuple[float, ...]) -> float:
        return abs(math.log(times[1] / best))

    found = search_times(score, 2, 80.0, 0.002, on_try=lambda times, value: tried.append(times))
    assert found == pytest.approx((80.0, wanted))
    assert len(tried) == len(set(tried)) <= 20


def test_the_search_adds_times_one_by_one_and_keeps_them_falling() -> None:
    goals = (None, 5.0, 0.4)

    def score(times: tuple[float, ...]) -> float:
        assert list(times) == sorted(times, reverse=True)
        return abs(math.log(times[-1] / goals[len(times) - 1]))

    found = search_times(score, 3, 80.0, 0.002, levels=100)
    assert found[0] == 80.0
    assert found[1] == pytest.approx(5.0, rel=0.15)
    assert found[2] == pytest.approx(0.4, rel=0.15)


def test_the_search_returns_the_best_time_that_it_measured_where_the_score_is_untidy() -> None:
    values: dict[tuple[float, ...], float] = {}

    def score(times: tuple[float, ...]) -> float:
        return math.sin(40 * times[-1]) + math.log(times[-1]) ** 2 / 50

    found = search_times(score, 2, 80.0, 0.002, on_try=lambda times, value: values.update({times: value}))
    assert score(found) == min(values.values())


def test_the_search_goes_on_from_known_times() -> None:
    found = search_times(lambda times: abs(times[-1] - 0.4), 3, 80.0, 0.002, known=(5.0,))
    assert found[:2] == (80.0, 5.0)
    assert found[2] == pytest.approx(0.4, rel=0.2)
    assert search_times(lambda times: 0.0, 1, 80.0, 0.002) == (80.0,)


def test_impossible_searches_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        search_times(lambda times: 0.0, 0, 80.0, 0.002)
    with pytest.raises(ValueError, match="no candidate lies below the time 80"):
        search_times(lambda times: times[-1], 3, 80.0, 0.002, levels=2)


def test_the_search_leaves_room_for_the_times_still_to_come() -> None:
    """A score that always likes the smallest time must not use up the grid."""
    times = search_times(lambda attempt: attempt[-1], 4, 80.0, 0.02, levels=10)
    assert len(times) == 4
    assert list(times) == sorted(times, reverse=True)
    assert len(set(times)) == 4


def test_a_search_passes_by_times_without_a_score_and_needs_a_last_one() -> None:
    def score(times: tuple[float, ...]) -> float:
        return math.nan if times[-1] > 3 else abs(math.log(times[-1]))

    assert search_times(score, 2, 80.0, 0.002)[1] == pytest.approx(1.0, rel=0.15)
    with pytest.raises(ValueError, match="t_min must be positive, got 0"):
        search_times(score, 2, 80.0, 0.0)
