"""The mixture of Gaussians: its closed forms against dense matrices, and what is fitted to samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unistep.codecs.identity import IdentityConfig
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.core.seeding import ItemGenerators, normal
from unistep.editing.averages import BlockAverage
from unistep.editing.blur import Blur
from unistep.editing.constraints import Linear
from unistep.editing.mixture import LEAST_VARIANCE, Mixture, fit_mixture
from unistep.editing.mixture_constraint import MixtureLinear
from unistep.editing.operators import Mask
from unistep.editing.solvers import Problem, Settings, trace_edit

SHAPE = (1, 4, 4)
SIZE = 16
OPERATORS = {
    "mask": Mask(torch.arange(SIZE).view(SHAPE) % 3 > 0),
    "means": BlockAverage((2, 3), (4, 4), (2, 2)),
    "blur": Blur(torch.tensor([[0.1, 0.8, 0.1]]), (4, 4)),
}


def mixture(components: int, generator: torch.Generator, rank: int = 5, apart: float = 1.0) -> Mixture:
    """Any mixture: means of that size, variances from 0.05 to 1 along the axes, and little elsewhere."""
    axes = torch.linalg.qr(torch.randn(components, SIZE, rank, generator=generator)).Q.mT.contiguous()
    weights = torch.rand(components, generator=generator) + 0.5
    return Mixture(
        weights=weights / weights.sum(),
        means=apart * torch.randn(components, SIZE, generator=generator),
        axes=axes,
        variances=torch.rand(components, rank, generator=generator) + 0.05,
        floor=0.01 + 0.02 * torch.rand(components, generator=generator),
    )


def covariance(one: Mixture, k: int) -> Tensor:
    axes, floor = one.axes[k].double(), one.floor[k].double()
    return axes.T @ torch.diag(one.variances[k].double() - floor) @ axes + floor * torch.eye(SIZE, dtype=torch.float64)


def matrix(operator: object) -> Tensor:
    """The operator's, ``[m, d]``, without what it never measures."""
    columns = operator.A(torch.eye(SIZE).view(SIZE, *SHAPE)).flatten(1).T.double()  # type: ignore[attr-defined]
    return columns[columns.abs().sum(dim=1) > 0]


def measured(operator: object, x: Tensor) -> Tensor:
    """What the rows of :func:`matrix` measure."""
    return x.flatten(1).double() @ matrix(operator).T


def test_the_mean_of_one_component_is_the_closed_form(generator: torch.Generator) -> None:
    one, x = mixture(1, generator), torch.randn(3, *SHAPE, generator=generator)
    whole, mean = covariance(one, 0), one.means[0].double()
    for name, operator in OPERATORS.items():
        for sigma in (0.0, 0.3) if name != "blur" else (0.0,):
            linear = Linear(operator, operator.A(x), sigma)
            a, b = matrix(operator), measured(operator, x)
            inner = torch.linalg.pinv(a @ whole @ a.T + sigma**2 * torch.eye(len(a)), rtol=1e-7, hermitian=True)
            expected = mean + (b - a @ mean) @ inner @ a @ whole
            found = MixtureLinear(linear, one).start.flatten(1).double()
            assert float((found - expected).abs().max()) < 2e-5, (name, sigma)


@pytest.mark.parametrize("sigma", [0.0, 0.2])
@pytest.mark.parametrize("level", [0.05, 0.6, 1e5])
def test_the_correction_of_a_gaussians_denoiser_is_its_mean_given_both(
    level: float, sigma: float, generator: torch.Generator
) -> None:
    """:math:`E[x | x_t]`, corrected, is :math:`E[x | x_t, y]`, whatever the noise level."""
    one = mixture(1, generator)
    whole, mean, identity = covariance(one, 0), one.means[0].double(), torch.eye(SIZE, dtype=torch.float64)
    x = mean + torch.randn(4, SIZE, generator=generator).double() @ torch.linalg.cholesky(whole).T
    x_t = x + level * torch.randn(4, SIZE, generator=generator).double()
    clean = mean + (x_t - mean) @ torch.linalg.inv(whole + level**2 * identity) @ whole
    for name in ("mask", "means"):
        operator = OPERATORS[name]
        y = operator.A(x.float().view(4, *SHAPE))
        y = y + sigma * torch.randn(y.shape, generator=generator)
        y = operator.A(y) if name == "mask" else y
        a = matrix(operator)
        seen = torch.cat([identity, a])
        noise = torch.diag(torch.tensor([level**2] * SIZE + [sigma**2] * len(a), dtype=torch.float64))
        b = y.flatten(1).double()
        b = b[:, operator.A(torch.ones(1, *SHAPE)).flatten() != 0]
        both = torch.cat([x_t, b], dim=1) - mean @ seen.T
        expected = mean + both @ torch.linalg.inv(seen @ whole @ seen.T + noise) @ seen @ whole
        constraint = MixtureLinear(Linear(operator, y, sigma), one)
        found = constraint.guide(clean.float().view(4, *SHAPE), level=torch.full((4,), level)).flatten(1).double()
        assert float((found - expected).abs().max()) < 3e-5
        if sigma == 0:
            assert float(constraint.residual(found.float().view(4, *SHAPE)).abs().max()) < 1e-6


def test_without_a_level_the_correction_is_the_mixtures_own(generator: torch.Generator) -> None:
    one, x = mixture(1, generator), torch.randn(3, *SHAPE, generator=generator)
    for operator in OPERATORS.values():
        constraint = MixtureLinear(Linear(operator, operator.A(x)), one)
        mean = one.means.view(1, *SHAPE).expand(3, *SHAPE)
        torch.testing.assert_close(constraint.guide(mean), constraint.start, atol=2e-6, rtol=1e-5)
        far = constraint.guide(mean, level=torch.full((3,), 1e6))
        torch.testing.assert_close(far, constraint.start, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_shares_and_mean_of_several_components_are_those_of_bayes(sigma: float, generator: torch.Generator) -> None:
    some, x = mixture(3, generator, apart=0.3), 0.5 * torch.randn(5, *SHAPE, generator=generator)
    operator = OPERATORS["mask"]  # of which the rank is known exactly
    a, b = matrix(operator), measured(operator, x)
    constraint = MixtureLinear(Linear(operator, operator.A(x), sigma), some, tempering=1.0)
    logs, means = [], []
    for k in range(3):
        whole, mean = covariance(some, k), some.means[k].double()
        inner = a @ whole @ a.T + sigma**2 * torch.eye(len(a))
        density = torch.distributions.MultivariateNormal(a @ mean, inner)
        logs.append(some.weights[k].double().log() + density.log_prob(b))
        means.append(mean + (b - a @ mean) @ torch.linalg.inv(inner) @ a @ whole)
    expected = torch.softmax(torch.stack(logs, dim=1), dim=1)
    assert float(expected.max(dim=1).values.min()) < 0.99  # so that the shares of all of them count
    torch.testing.assert_close(constraint.shares, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        constraint.start.flatten(1).double(),
        torch.einsum("bk,kbd->bd", expected, torch.stack(means)),
        atol=1e-4,
        rtol=0,
    )


def test_of_two_that_lie_apart_the_right_one_is_chosen(generator: torch.Generator) -> None:
    two = mixture(2, generator, apart=3.0)
    for operator in OPERATORS.values():
        x = two.means.view(2, *SHAPE)
        for tempering in (0.2, 1.0):
            constraint = MixtureLinear(Linear(operator, operator.A(x)), two, tempering=tempering)
            assert float(constraint.shares.diagonal().min()) > 0.999
            torch.testing.assert_close(constraint.start, x, atol=1e-2, rtol=0)


def test_a_result_is_the_same_in_any_batch_and_with_a_mask_for_each(generator: torch.Generator) -> None:
    some, x = mixture(4, generator), torch.randn(4, *SHAPE, generator=generator)
    each = Mask(torch.rand(4, *SHAPE, generator=generator) > 0.4, each=True)
    level = torch.tensor([0.2, 0.5, 1.0, 3.0])
    for operator in (each, *OPERATORS.values()):
        whole = MixtureLinear(Linear(operator, operator.A(x), torch.tensor([0.0, 0.1, 0.2, 0.4])), some)
        parts = [whole.select(slice(i, i + 1)) for i in range(4)]
        torch.testing.assert_close(torch.cat([one.start for one in parts]), whole.start, atol=1e-5, rtol=1e-5)
        alone = torch.cat([one.guide(x[i : i + 1], level=level[i : i + 1]) for i, one in enumerate(parts)])
        torch.testing.assert_close(alone, whole.guide(x, level=level), atol=1e-5, rtol=1e-5)
        known = whole.linear.select(slice(0, 1))  # without noise
        assert float(known.residual(parts[0].start).abs().max()) < 1e-6


def test_the_level_counts_in_signals(generator: torch.Generator) -> None:
    """A codec's scale makes noise that the network sees smaller or larger in signals."""
    some, x = mixture(2, generator), torch.randn(2, *SHAPE, generator=generator)
    linear = Linear(OPERATORS["means"], OPERATORS["means"].A(x))
    plain, scaled = MixtureLinear(linear, some), MixtureLinear(linear, some, scale=4.0)
    level = torch.tensor([0.3, 0.3])
    torch.testing.assert_close(scaled.guide(0 * x, level=4 * level), plain.guide(0 * x, level=level))
    assert not torch.allclose(scaled.guide(0 * x, level=level), plain.guide(0 * x, level=level), atol=1e-3)


class Gaussians(torch.nn.Module):
    """The denoiser of one component, as a network that a map can be read from."""

    def __init__(self, one: Mixture) -> None:
        super().__init__()
        self.mean, self.whole = one.means[0], covariance(one, 0).float()

    def clean(self, x: Tensor, level: Tensor) -> Tensor:
        flat, identity = x.flatten(1) - self.mean, torch.eye(SIZE)
        gain = self.whole @ torch.linalg.inv(self.whole + level.square()[:, None, None] * identity)
        return (self.mean + (gain @ flat[:, :, None])[:, :, 0]).view_as(x)


def test_a_call_moves_nothing_where_the_mixture_is_all_that_there_is(generator: torch.Generator) -> None:
    """With the exact denoiser, the mean over noise of one corrected call is the mean that it begins from."""
    one = mixture(1, generator)
    denoiser, operator = Gaussians(one), OPERATORS["means"]
    x = torch.randn(1, *SHAPE, generator=generator)
    constraint = MixtureLinear(Linear(operator, operator.A(x).expand(512, -1, -1, -1)), one)
    model = ConsistencyModel(torch.nn.Identity(), VarianceExploding())
    model.forward = lambda x, t, s=None, condition=None: denoiser.clean(x, t)  # type: ignore[method-assign]
    noise = normal((512, *SHAPE), ItemGenerators(list(range(512))))
    codec = IdentityConfig(bounded=False).build(SHAPE)
    noise = torch.cat([noise[:256], -noise[:256]])  # so that its mean is zero
    trace = trace_edit(model, codec, Problem(constraint=constraint), noise, 1, Settings(first=1.0))
    (found,) = trace
    torch.testing.assert_close(found.mean(dim=0), constraint.start[0], atol=1e-5, rtol=0)
    assert float(found.std(dim=0).max()) > 0.01


def test_a_mixture_is_fitted_to_its_samples(generator: torch.Generator) -> None:
    made = mixture(1, generator, rank=2)
    axes, root = made.axes[0], torch.tensor([1.0, 0.6])
    means = torch.stack([torch.full((SIZE,), -4.0), torch.full((SIZE,), 4.0)])
    chosen = torch.arange(3000) % 3 == 0
    x = means[chosen.long()] + (torch.randn(3000, 2, generator=generator) * root) @ axes
    x = x + 0.1 * torch.randn(3000, SIZE, generator=generator)
    torch.manual_seed(3)
    before, done = torch.get_rng_state(), []
    found = fit_mixture(x.view(3000, *SHAPE), clusters=2, rank=2, progress=done.append)
    assert torch.equal(before, torch.get_rng_state())
    assert done == [1, 1]
    order = found.means[:, 0].argsort()
    torch.testing.assert_close(found.means[order], means, atol=0.15, rtol=0)
    torch.testing.assert_close(found.weights[order], torch.tensor([2 / 3, 1 / 3]), atol=1e-3, rtol=0)
    for k in range(2):
        torch.testing.assert_close((found.axes[k] @ axes.T).abs(), torch.eye(2), atol=0.15, rtol=0)
        torch.testing.assert_close(found.axes[k] @ found.axes[k].T, torch.eye(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.variances[k], root.square() + 0.01, atol=0, rtol=0.15)
        assert float(found.floor[k]) == pytest.approx(0.01, rel=0.15)
    again = fit_mixture(x, clusters=2, rank=2)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in found.tensors().items())


def test_few_samples_and_the_same_ones_make_a_mixture_or_one_line(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="5 samples are too few for 3 clusters; give at least 6"):
        fit_mixture(torch.randn(5, 4), clusters=3)
    with pytest.raises(ValueError, match="clusters and rank must be at least 1, got 0 and 2"):
        fit_mixture(torch.randn(5, 4), clusters=0, rank=2)
    same = fit_mixture(torch.ones(20, *SHAPE), clusters=3, rank=4)
    assert float(same.floor.min()) == pytest.approx(LEAST_VARIANCE)
    x = torch.randn(2, *SHAPE, generator=generator)
    constraint = MixtureLinear(Linear(OPERATORS["means"], OPERATORS["means"].A(x)), same)
    assert constraint.start.isfinite().all()
    assert constraint.guide(x, level=torch.tensor([0.1, 1.0])).isfinite().all()
