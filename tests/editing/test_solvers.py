"""The two solvers: Algorithm 4 of the paper, and mixed noise, on data whose denoiser and flow map are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from analytic import ANY_PATH, GaussianDenoiser, GaussianFlow, WavyNet
from unistep.codecs.identity import IdentityConfig
from unistep.core.flowmap import ConsistencyModel, FlowMap
from unistep.core.path import VarianceExploding, expand_to
from unistep.core.sampling import sample_multistep, trace_multistep
from unistep.core.seeding import ItemGenerators, normal
from unistep.core.solvers import sample_ode
from unistep.editing.averages import BlockAverage
from unistep.editing.constraints import Linear
from unistep.editing.operators import Everything, Mask
from unistep.editing.solvers import Problem, Settings, times_of_levels, trace_edit, trusted

VE = VarianceExploding()
SHAPE = (1, 4, 4)


def test_only_estimated_noise_follows_the_ode(path) -> None:
    denoiser, noise = GaussianDenoiser(path), torch.randn(3, 5)
    grid = path.time_at(torch.tensor([80.0, 9.0, 2.0, 0.4]))
    expected = sample_ode(denoiser, noise, grid, solver="euler")
    found = sample_multistep_with(denoiser, noise, grid, estimated=1.0)
    if path == VE:  # where Euler's step is that of DDIM
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    x, t = path.sigma(grid[:1]).expand(3)[:, None] * noise, grid
    for i in range(4):
        clean = denoiser(x, t[i].expand(3))
        if i < 3:
            z = (x - path.alpha(t[i]) * clean) / path.sigma(t[i])
            x = path.alpha(t[i + 1]) * clean + path.sigma(t[i + 1]) * z
    torch.testing.assert_close(found, clean, atol=1e-5, rtol=1e-5)


def sample_multistep_with(model, noise: Tensor, grid: Tensor, **options) -> Tensor:
    *_, last = trace_multistep(model, noise, grid, **options)
    return last


def test_mixed_noise_keeps_its_size() -> None:
    """Fresh and estimated noise are independent of each other, and of variance one together."""
    flow, noise = GaussianFlow(VE, mean=0.0, std=0.5, boundary=0.0), torch.randn(200_000, 1)
    times = torch.tensor([80.0, 3.0])
    for share in (-0.8, 0.0, 0.5, 1.0):
        seen: list[Tensor] = []
        steps = trace_multistep(
            flow, noise, times, estimated=share, generator=torch.Generator().manual_seed(1),
            project=lambda x, t, seen=seen: (seen.append(x), x * 0)[1],
        )  # fmt: skip
        list(steps)
        # The map takes N(0, 3^2) at its second time to a standard deviation of 0.5 * 3 / sqrt(0.5^2 + 3^2).
        assert float(seen[1].detach().std()) == pytest.approx(0.5 * 3 / (0.25 + 9) ** 0.5, rel=0.02)


def test_excess_is_a_model_that_assumes_more_noise(path) -> None:
    model, noise = ConsistencyModel(WavyNet(), path), torch.randn(2, 1, 3)
    t = path.time_at(torch.tensor([2.0]))
    found = sample_multistep_with(model, noise, t, excess=0.5)
    expected = model(path.sigma(t).expand(2)[:, None, None] * noise, path.time_at(torch.tensor([3.0, 3.0])))
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="estimated must be in"):
        sample_multistep_with(model, noise, t, estimated=1.5)


def algorithm_4(model, y: Tensor, known: Tensor, times: list[float], seeds: list[int]) -> Tensor:
    """Song et al. 2023, algorithm 4, for a mask, line by line on the variance-exploding path."""
    items = ItemGenerators(seeds)
    eps = model.boundary
    x = y * known + times[0] * normal(y.shape, items)
    for n, t in enumerate(times):
        if n > 0:
            x = x + (t**2 - eps**2) ** 0.5 * normal(y.shape, items)
        x = model(x, torch.full((len(y),), t))
        x = y * known + x * (1 - known)
    return x


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_replacement_is_algorithm_4(steps: int, generator: torch.Generator) -> None:
    model = ConsistencyModel(WavyNet(), VE, boundary=0.002)
    y = torch.rand(3, *SHAPE, generator=generator) - 0.5
    known = (torch.rand(SHAPE, generator=generator) > 0.5).float()
    settings = Settings(first=10.0, last=0.5).plain()
    seeds = [5, 6, 7]
    items = ItemGenerators(seeds)
    noise = normal((3, *SHAPE), items)
    codec = IdentityConfig(bounded=False).build(SHAPE)
    operator = Mask(known)
    problem = Problem(constraint=Linear(operator, operator.A(y)))
    *_, found = trace_edit(model, codec, problem, noise, steps, settings, generator=items)
    times = [float(level) * 0.5 for level in settings.levels(steps)]
    torch.testing.assert_close(found, algorithm_4(model, y, known, times, seeds), atol=1e-5, rtol=1e-5)
    assert float(((found - y) * known).abs().max()) < 1e-5


@pytest.mark.parametrize("solver", ["replacement", "back-projection"])
@pytest.mark.parametrize("name", ANY_PATH)
def test_what_is_known_is_exact_on_every_path_with_every_map(name: str, solver: str, generator) -> None:
    path = ANY_PATH[name]
    operator = BlockAverage((2, 3), (4, 4), (2, 2))
    y = operator.A(torch.rand(2, *SHAPE, generator=generator) - 0.5)
    settings = Settings(first=20.0, last=0.5, estimated=-0.4, excess=0.2)
    settings = settings.plain() if solver == "replacement" else settings
    codec = IdentityConfig(scale=0.7).build(SHAPE)
    for model in (ConsistencyModel(WavyNet(), path), FlowMap(WavyNet(), path), GaussianDenoiser(path)):
        noise = normal((2, *SHAPE), ItemGenerators([0, 1]))
        constraint = Linear(operator, y)
        trace = trace_edit(
            model, codec, Problem(constraint=constraint), noise, 4, settings, generator=ItemGenerators([2, 3])
        )
        *_, x = trace
        x = constraint.satisfied(x, codec.within_range)
        assert float(constraint.residual(x).abs().max()) < 1e-5


def test_the_weight_of_a_noisy_measurement_is_that_of_bayes() -> None:
    """Gaussian data, seen twice with independent noise: the mean given both is the correction of that given one."""
    sigma_data, level, sigma_y = 0.5, torch.tensor([2.0, 0.3]), torch.tensor([0.4, 0.1])
    x_t, y = torch.tensor([1.0, -0.7]), torch.tensor([0.2, 0.6])
    first = sigma_data**2 / (sigma_data**2 + level**2) * x_t
    weight = trusted(level, sigma_data, sigma_y)
    precision = 1 / sigma_data**2 + 1 / level**2 + 1 / sigma_y**2
    expected = (x_t / level**2 + y / sigma_y**2) / precision
    torch.testing.assert_close(first + weight * (y - first), expected)
    assert trusted(level, sigma_data, torch.zeros(2)).tolist() == [1.0, 1.0]


def test_one_step_of_denoising_is_the_model_at_the_noise_of_the_input(generator: torch.Generator) -> None:
    model = GaussianDenoiser(VE, mean=0.0, std=0.5)
    y = torch.randn(3, *SHAPE, generator=generator) * 0.6
    sigma = torch.tensor([0.2, 0.4, 0.9])
    problem = Problem(start=y, noise=sigma, relative=True)
    codec = IdentityConfig(bounded=False).build(SHAPE)
    (found,) = trace_edit(model, codec, problem, torch.randn(y.shape), 1, Settings(first=1.0))
    seen = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).square().mean().sqrt()
    torch.testing.assert_close(found, model(y, sigma * seen), atol=1e-4, rtol=1e-4)
    assert float(seen) == pytest.approx(1, abs=0.5)  # few values; a picture has thousands


def test_denoising_gaussian_data_reaches_the_error_of_the_posterior(generator: torch.Generator) -> None:
    model = GaussianDenoiser(VE, mean=0.0, std=0.5)
    shape = (1, 64, 64)
    x = 0.5 * torch.randn(8, *shape, generator=generator)
    y = x + 0.4 * torch.randn(x.shape, generator=generator)
    constraint = Linear(Everything(), y, 0.4)
    problem = Problem(start=y, noise=torch.full((8,), 0.4), relative=True, constraint=None)
    codec = IdentityConfig(bounded=False).build(shape)
    *_, found = trace_edit(model, codec, problem, torch.randn(y.shape, generator=generator), 1, Settings(first=1.0))
    expected = (0.25 * 0.16 / (0.25 + 0.16)) ** 0.5
    assert float((found - x).square().mean().sqrt()) == pytest.approx(expected, rel=0.02)
    assert constraint.sigma.tolist() == pytest.approx([0.4] * 8)


def test_levels_and_times_stay_where_the_model_was_trained(path) -> None:
    levels = Settings(first=1e4, last=1e-3).levels(3)
    assert levels[0] > levels[1] > levels[2]
    times = times_of_levels(path, [torch.tensor([level]) for level in levels], sigma_min_trained=0.1)
    assert float(times[0]) <= path.t_max * (1 + 1e-6)
    assert float(path.ratio(times[2])) == pytest.approx(0.1, rel=1e-3)
    assert Settings(first=2.0, last=3.0).levels(1) == [2.0]


@pytest.mark.parametrize("field", ["first", "last", "estimated", "excess", "trust"])
def test_settings_out_of_range_are_refused_by_name(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be from"):
        Settings(**{field: -2.0})


def test_each_item_has_its_own_noise_level(generator: torch.Generator) -> None:
    model = ConsistencyModel(WavyNet(), VE, boundary=0.0)
    y = torch.rand(3, *SHAPE, generator=generator) - 0.5
    sigma = torch.tensor([0.1, 0.3, 0.7])
    codec = IdentityConfig().build(SHAPE)
    problem = Problem(start=y, noise=sigma, relative=True, constraint=Linear(Everything(), y, sigma))

    def solve(rows: slice, seeds: list[int]) -> Tensor:
        items = ItemGenerators(seeds)
        noise = normal((len(seeds), *SHAPE), items)
        *_, last = trace_edit(
            model, codec, problem.select(rows), noise, 3, Settings(first=1.5, last=0.3), generator=items
        )
        return last

    whole = solve(slice(0, 3), [0, 1, 2])
    parts = torch.cat([solve(slice(i, i + 1), [i]) for i in range(3)])
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)
    assert expand_to(sigma, y).shape == (3, 1, 1, 1)


def test_multistep_sampling_without_the_new_options_is_what_it_was(generator: torch.Generator) -> None:
    model, noise = ConsistencyModel(WavyNet(), VE), torch.randn(2, 1, 3, generator=generator)
    plain = sample_multistep(model, noise, [80.0, 2.0], generator=torch.Generator().manual_seed(3))
    same = sample_multistep_with(
        model, noise, torch.tensor([80.0, 2.0]), generator=torch.Generator().manual_seed(3), estimated=0.0
    )
    torch.testing.assert_close(plain, same, atol=0, rtol=0)
