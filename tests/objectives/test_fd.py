"""FD loss: the distance and its gradient against autograd, identity, a toy that learns, populations, anchors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from planar import planar_data
from tolerance import rounding
from unistep.core.condition import Condition, Label
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap
from unistep.core.path import LinearFlow, VarianceExploding
from unistep.core.seeding import ShardGenerator
from unistep.evaluation.metrics import frechet_distance
from unistep.objectives.fd import FDConfig, FrechetObjective, one_jump
from unistep.objectives.frechet import FrechetTarget, Representation, influence
from unistep.objectives.frechet_bias import slope_of_real
from unistep.objectives.population import ClassMeans, Queue, RunningMoments

VE = VarianceExploding()


class Points(nn.Module):
    """A raw network for points; its times and its class are inputs like the others."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: Condition) -> Tensor:
        label = condition.get("label")
        index = x.new_zeros(len(x), 1) if label is None else label.tensors["index"][:, None].to(x)
        return self.last(self.layers(torch.cat([x, index], dim=1)))


class Given(ConsistencyModel):
    """A generator whose samples are its parameters."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__(nn.Identity(), VE)
        self.samples = nn.Parameter(samples)

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        return self.samples


def cloud(num: int, dim: int, seed: int) -> Tensor:
    """Correlated points that are not centred, float64."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=g, dtype=torch.float64)
    return torch.randn(num, dim, generator=g, dtype=torch.float64) @ mix + torch.randn(dim, generator=g).double()


def by_autograd(phi: Tensor, data: Tensor) -> Tensor:
    """The distance written down another way: the roots of the eigenvalues of a product that is not symmetric."""
    mean, covariance = phi.mean(dim=0), phi.T.cov(correction=0)
    values = torch.linalg.eigvals(covariance @ data.T.cov(correction=0)).real
    spread = covariance.trace() + data.T.cov(correction=0).trace() - 2 * values.sqrt().sum()
    return (mean - data.mean(dim=0)).square().sum() + spread


def identity(x: Tensor) -> Tensor:
    return x


def test_value_and_gradient_are_those_of_an_independent_computation() -> None:
    phi, data = cloud(200, 6, seed=0).requires_grad_(), cloud(300, 6, seed=1)
    distance = by_autograd(phi, data)
    (theirs,) = torch.autograd.grad(distance, phi)
    target = FrechetTarget(data.mean(dim=0), data.T.cov(correction=0))
    mean, covariance = phi.detach().mean(dim=0), phi.detach().T.cov(correction=0)
    value, by_mean, by_covariance = target(mean, covariance)
    (ours,) = torch.autograd.grad(influence(phi, mean, by_mean, by_covariance).mean(), phi)
    scale = float(covariance.trace() + data.T.cov().trace())
    assert float(value) == pytest.approx(distance.item(), abs=1e-10 * scale)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-8 * float(theirs.abs().max()))


def test_value_is_that_of_the_evaluation() -> None:
    phi, data = cloud(200, 6, seed=0), cloud(300, 6, seed=1)
    value = FrechetTarget(data.mean(dim=0), data.T.cov())(phi.mean(dim=0), phi.T.cov())[0]
    assert float(value) == pytest.approx(frechet_distance(data, phi), rel=1e-9)


def test_a_batch_that_is_the_whole_population_has_the_gradient_of_the_distance() -> None:
    """Of the distance over its first value, through the objective."""
    samples, data = cloud(64, 3, seed=2), cloud(300, 3, seed=3)
    objective = FrechetObjective(Given(samples), [Representation.of("x", identity, data)], FDConfig(population=64))
    objective(torch.zeros(64, 3).double(), {}, generator=None, progress=0.0).per_example.mean().backward()
    phi = samples.clone().requires_grad_()
    target = objective.teacher.get_submodule("targets").get_submodule("0")  # type: ignore[union-attr]
    mean, covariance = phi.mean(dim=0), phi.T.cov(correction=0)
    product = target.root @ covariance @ target.root
    values = torch.linalg.eigvalsh(product)
    distance = (mean - target.mean).square().sum() + covariance.trace() + target.trace - 2 * values.sqrt().sum()
    (distance / distance.detach()).backward()
    ours = objective.student.get_parameter("samples").grad
    assert ours is not None
    assert phi.grad is not None
    assert torch.allclose(ours, phi.grad, rtol=0, atol=1e-9 * float(phi.grad.abs().max()))


def test_where_the_distributions_agree_there_is_neither_loss_nor_gradient() -> None:
    samples = cloud(256, 4, seed=0)
    mean, covariance = samples.mean(dim=0), samples.T.cov(correction=0)
    target = FrechetTarget(mean, covariance)
    value, by_mean, by_covariance = target(mean, covariance)
    scale = float(covariance.trace())
    assert float(value) < 1e-10 * scale
    phi = samples.clone().requires_grad_()
    influence(phi, mean, by_mean, by_covariance).mean().backward()
    assert phi.grad is not None
    assert float(phi.grad.abs().max()) < 1e-8 * float(samples.abs().max())
    # Through the objective, in units of a distance that a shift by one standard deviation would have.
    given = Representation(name="x", features=identity, mean=mean, covariance=covariance)
    objective = FrechetObjective(Given(samples), [given], FDConfig(population=256))
    objective.scales.fill_(scale)
    loss = objective(samples, {}, generator=None, progress=0.0)
    loss.per_example.mean().backward()
    assert loss.per_example.abs().max().item() < 1e-8
    assert float(objective.student.get_parameter("samples").grad.abs().max()) < 1e-8  # type: ignore[union-attr]


@pytest.mark.parametrize("spread", [0.0, 1e-8])
def test_a_direction_without_samples_has_a_bounded_gradient(spread: float) -> None:
    """Where the data has none either there is nothing but the spread of the samples to take away."""
    data = cloud(300, 3, seed=1)
    phi = cloud(200, 3, seed=0) * torch.tensor([1.0, 1.0, spread], dtype=torch.float64)
    target = FrechetTarget(data.mean(dim=0), data.T.cov())
    _, _, slope = target(phi.mean(dim=0), phi.T.cov())
    assert slope.isfinite().all()
    assert float(slope[2, 2]) < -1  # more spread is wanted
    flat = data * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    _, _, slope = FrechetTarget(flat.mean(dim=0), flat.T.cov())(phi.mean(dim=0), phi.T.cov())
    assert float(slope[2, 2]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("moments", ["running", "queue"])
def test_a_toy_moves_onto_the_data(moments: str) -> None:
    """Points of one normal distribution towards those of another, by features that also see their shape."""

    def features(x: Tensor) -> Tensor:
        return torch.cat([x, x.square(), x[:, :1] * x[:, 1:]], dim=1)

    g = torch.Generator().manual_seed(0)
    data = planar_data(4000, g)
    torch.manual_seed(0)
    student = ConsistencyModel(Points(), VE)
    config = FDConfig(population=1024, moments=moments)  # type: ignore[arg-type]
    objective = config.build(student, None, [Representation.of("shape", features, data)])
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3, betas=(0.9, 0.99))
    x0 = torch.zeros(256, 2)
    losses = []
    for _ in range(150):
        loss = objective(x0, {}, generator=g, progress=0.0).per_example.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(0.0)
        losses.append(loss.item())
    with torch.no_grad():
        samples = features(one_jump(student, torch.randn(4000, 2, generator=g), {}))
    assert losses[0] == pytest.approx(1.0)
    assert losses[-1] < 0.05
    noise = features(torch.randn(4000, 2, generator=g) * data.std())
    assert frechet_distance(features(data), samples) < 0.5 * frechet_distance(features(data), noise)


class Classes:
    """Conditions for the first population: two classes in turn."""

    def __call__(self, count: int) -> Iterator[tuple[Tensor, Condition]]:
        for start in range(0, count, 100):
            num = min(100, count - start)
            yield torch.zeros(num, 2), {"label": Label(torch.arange(num) % 2)}


def test_with_class_means_each_class_finds_its_own() -> None:
    """Two points at -1 and 1: the mixture is matched either way round, each class only by its own."""
    g = torch.Generator().manual_seed(0)
    index = torch.arange(2000) % 2
    data = torch.stack([2.0 * index - 1, torch.zeros(2000)], dim=1) + 0.1 * torch.randn(2000, 2, generator=g)
    means = torch.stack([data[index == c].mean(dim=0) for c in range(2)])
    whole = Representation.of("x", identity, data)
    given = Representation(
        name="x", features=identity, mean=whole.mean, covariance=whole.covariance, class_means={"label": means}
    )
    torch.manual_seed(1)
    student = ConsistencyModel(Points(), VE)
    objective = FDConfig(population=512, conditional=1.0).build(student, None, [given], Classes())
    objective.begin(g)
    assert float(objective.scales[0]) > 0
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    labels = torch.arange(128) % 2
    for _ in range(150):
        loss = objective(torch.zeros(128, 2), {"label": labels}, generator=g, progress=0.0)
        optimizer.zero_grad()
        loss.per_example.mean().backward()
        optimizer.step()
        objective.after_step(0.0)
    with torch.no_grad():
        x = one_jump(student, torch.randn(200, 2, generator=g), {"label": Label(torch.arange(200) % 2)})
    assert float(x[::2, 0].mean()) < -0.5
    assert float(x[1::2, 0].mean()) > 0.5


def test_the_influence_on_class_means_is_their_gradient() -> None:
    """With a population that is the batch, against autograd."""
    phi, index = cloud(60, 3, seed=0).requires_grad_(), torch.arange(60) % 3 - 1  # a third without a class
    target = cloud(2, 3, seed=1)
    classes = ClassMeans(60, {"label": target})
    value, parts = classes(phi.detach(), {"label": index}, phi, {"label": index})
    (ours,) = torch.autograd.grad(parts.mean(), phi)
    shares = [(index == c).double().mean() for c in range(2)]
    apart = sum(shares[c] * (phi[index == c].mean(dim=0) - target[c]).square().sum() for c in range(2))
    assert isinstance(apart, Tensor)
    (theirs,) = torch.autograd.grad(apart, phi)
    assert value.item() == pytest.approx(apart.item())
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_running_moments_and_a_queue_are_those_of_all_samples_until_they_are_full() -> None:
    rows = cloud(90, 4, seed=0)
    for population in (RunningMoments(90, 4), Queue(90, 4)):
        for part in rows[:60].split(30):
            population.add(part)
        mean, covariance = population.moments(rows[60:])
        atol = rounding(terms=90, scale=float(rows.square().max()))  # the queue keeps float32
        assert torch.allclose(mean, rows.mean(dim=0), atol=atol)
        assert torch.allclose(covariance, rows.T.cov(correction=0), atol=atol)
        assert int(population.filled) == 60


def test_a_full_queue_forgets_the_oldest_and_running_moments_by_age() -> None:
    rows = cloud(150, 4, seed=0).float().double()
    queue, running = Queue(90, 4), RunningMoments(90, 4)
    for part in rows.split(30):
        queue.add(part)
        running.add(part)
    mean, covariance = queue.moments(rows[:0])
    atol = rounding(terms=150, scale=float(rows.square().max()))
    assert torch.allclose(mean, rows[60:].mean(dim=0), atol=atol)
    assert torch.allclose(covariance, rows[60:].T.cov(correction=0), atol=atol)
    expected = rows[:90].mean(dim=0)
    for part in rows[90:].split(30):
        expected = expected * (2 / 3) + part.mean(dim=0) / 3
    assert torch.allclose(running.first, expected, atol=1e-12)


def test_a_step_that_was_skipped_leaves_no_trace() -> None:
    student = ConsistencyModel(Points(), VE)
    objective = FDConfig(population=64).build(student, None, [Representation.of("x", identity, cloud(99, 2, seed=0))])
    g = torch.Generator().manual_seed(0)
    objective(torch.zeros(16, 2), {}, generator=g, progress=0.1)
    objective(torch.zeros(16, 2), {}, generator=g, progress=0.2)
    objective(torch.zeros(16, 2), {}, generator=g, progress=0.2)  # another part of the same batch
    objective.after_step(0.2)
    assert int(objective.populations[0].filled) == 32  # type: ignore[arg-type]


def test_the_anchor_holds_the_samples_of_the_first_weights() -> None:
    torch.manual_seed(0)
    student = FlowMap(Points(), LinearFlow())
    data = Representation.of("x", identity, cloud(99, 2, seed=0))
    objective = FDConfig(population=64, anchor=2.0).build(student, None, [data])
    x0, g = torch.zeros(16, 2), torch.Generator().manual_seed(0)
    assert float(objective(x0, {}, generator=g, progress=0.0).logs["fd/away"]) == 0
    with torch.no_grad():
        student.net.get_parameter("last.bias").add_(1.0)
    plain = FDConfig(population=64).build(student, None, [data])
    ours, theirs = (o(x0, {}, generator=g.manual_seed(1), progress=0.0) for o in (objective, plain))
    away = ours.logs["fd/away"]
    assert float(away) > 0
    assert torch.allclose(ours.per_example.mean(), theirs.per_example.mean() + 2 * away)
    frozen = [name for name, p in objective.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(name.startswith("teacher.start.") for name in frozen)


class Watched(ConsistencyModel):
    """A generator that notes the time and the gradient mode of each call."""

    calls: list[tuple[float, bool]]

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        self.calls.append((float(t.flatten()[0]), torch.is_grad_enabled()))
        return super().forward(x, t, s, condition or {})


def test_samples_of_more_steps_have_a_share_a_population_and_the_gradient_of_their_last_jump() -> None:
    torch.manual_seed(0)
    student = Watched(Points(), VE)
    student.calls = []
    points = cloud(99, 2, seed=0)
    data = Representation(name="x", features=identity, mean=points.mean(dim=0), covariance=points.T.cov(correction=0))
    objective = FDConfig(population=64, times=(0.9, 0.2)).build(student, None, [data])
    loss = objective(torch.zeros(30, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0)
    first = VE.t_max
    wanted = [(first, True), (first, False), (0.9, True), (first, False), (0.9, False), (0.2, True)]
    assert [(pytest.approx(t), graded) for t, graded in student.calls] == wanted
    assert loss.per_example.shape == (30,)
    assert {"fd/x", "fd/x/2", "fd/x/3"} <= set(loss.logs)
    objective.after_step(0.0)
    assert [int(population.filled) for population in objective.populations] == [10, 10, 10]  # type: ignore[arg-type]
    # A share's loss is the distance of its own samples: one step of every third noise.
    noise = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    alone = by_autograd(one_jump(student, noise[::3], {}).detach().double(), points)
    assert float(loss.logs["fd/x"]) == pytest.approx(float(alone), rel=1e-4)


def test_a_process_with_a_share_of_the_batch_draws_the_noise_of_its_share() -> None:
    torch.manual_seed(0)
    student, seen = ConsistencyModel(Points(), VE), list[Tensor]()
    data = Representation.of("x", lambda x: (seen.append(x.detach()), x)[1], cloud(99, 2, seed=0))
    seen.clear()
    for first in (0, 16):
        objective = FDConfig(population=64, times=(0.9,)).build(student, None, [data])
        share = ShardGenerator(torch.Generator().manual_seed(0), first, first + 16, 32)
        objective(torch.zeros(16, 2), {}, generator=share, progress=0.0)
    noise = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], one_jump(student, noise[0:16:2], {}))
    assert torch.equal(seen[2], one_jump(student, noise[16:32:2], {}))


class Timed(Points):
    """The network for points, with the noise level in place of the class."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: Condition) -> Tensor:
        return self.last(self.layers(torch.cat([x, t.view(-1, 1)], dim=1)))


def test_a_toy_of_two_steps_moves_onto_the_data() -> None:
    torch.manual_seed(0)
    student = ConsistencyModel(Timed(), VE)
    points = cloud(999, 2, seed=0).float()
    objective = FDConfig(population=512, times=(0.9,)).build(student, None, [Representation.of("x", identity, points)])
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    g = torch.Generator().manual_seed(0)
    seen = []
    for step in range(150):
        loss = objective(torch.zeros(256, 2), {}, generator=g, progress=step / 150)
        optimizer.zero_grad()
        loss.per_example.mean().backward()
        optimizer.step()
        objective.after_step(step / 150)
        seen.append((float(loss.logs["fd/x"]), float(loss.logs["fd/x/2"])))
    assert seen[-1][0] < 0.3 * seen[0][0]
    assert seen[-1][1] < 0.3 * seen[0][1]


def scaled(count: int, generator: torch.Generator) -> Tensor:
    """Points whose eight directions have variances from 1 to a thousandth."""
    return torch.randn(count, 8, generator=generator) * torch.logspace(0, -1.5, 8)


def test_real_data_stays_where_it_is_once_the_bias_is_known() -> None:
    """The mean gradient of fresh real batches, along each direction: far from zero without, a tenth of it with."""
    g = torch.Generator().manual_seed(0)
    spread = torch.logspace(0, -3, 8, dtype=torch.float64)
    target = FrechetTarget(torch.zeros(8), torch.diag(spread))
    bias = slope_of_real(scaled(20_000, g), RunningMoments(64, 8), 16)
    population, found = RunningMoments(64, 8), {False: torch.zeros(8).double(), True: torch.zeros(8).double()}
    for _ in range(800):
        x = scaled(16, g)
        mean, covariance = population.moments(x)
        _, by_mean, by_covariance = target(mean, covariance)
        for taken, slope in ((False, by_covariance), (True, by_covariance - bias)):
            x = x.detach().requires_grad_()
            influence(x, mean, by_mean, slope).mean().backward()
            assert x.grad is not None
            # How fast the variance of a direction would change, relative to it.
            found[taken] += (x.grad.double() * x.detach().double()).sum(dim=0) / spread / 800
        population.add(x.detach())
    assert (found[False] > 0.02).all()
    assert float(found[False][-1]) > 0.1
    assert (found[True].abs() < 0.25 * found[False].max()).all()
    assert float(found[True][-1].abs()) < 0.3 * float(found[False][-1])


class Scaled(ConsistencyModel):
    """A generator of points with a scale for each direction, which begins as that of the data."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), VE)
        self.scale = nn.Parameter(torch.logspace(0, -1.5, 8))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        return x / VE.t_max * self.scale


def lost(unbiased: bool) -> float:
    """The share of the least variance that a generator that began as the data has in the end."""
    g = torch.Generator().manual_seed(0)
    data = scaled(4000, g)

    def examples(count: int) -> Iterator[tuple[Tensor, Condition]]:
        yield data[:count], {}

    student = Scaled()
    config = FDConfig(population=64, unbiased=unbiased)
    objective = config.build(student, None, [Representation.of("x", identity, data)], examples)
    objective.begin(g)
    optimizer = torch.optim.SGD(student.parameters(), lr=6e-3)
    for _ in range(500):
        loss = objective(torch.zeros(16, 8), {}, generator=g, progress=0.0)
        optimizer.zero_grad()
        (loss.per_example.mean() * objective.scales[0].float()).backward()
        optimizer.step()
        objective.after_step(0.0)
    with torch.no_grad():
        x = one_jump(student, torch.randn(8000, 8, generator=g), {})
    return float(x[:, -1].var() / data[:, -1].var())


def test_the_bias_is_measured_once_there_is_a_population_and_not_in_a_timing_run() -> None:
    g = torch.Generator().manual_seed(0)
    data, asked = scaled(4000, g), []

    def examples(count: int) -> Iterator[tuple[Tensor, Condition]]:
        asked.append(count)
        yield data[:count], {}

    objective = FDConfig(population=64).build(Scaled(), None, [Representation.of("x", identity, data)], examples)
    objective(torch.zeros(16, 8), {}, generator=g, progress=0.0)
    assert asked == []
    objective.begin(g)
    for _ in range(2):
        objective(torch.zeros(16, 8), {}, generator=g, progress=0.0)
    assert asked == [64, 2048]
    assert float(objective.get_buffer("bias_0").norm()) > 0
    assert not any(name.startswith("bias") for name in objective.state_dict())


def test_a_generator_that_began_as_the_data_keeps_what_varies_little() -> None:
    assert lost(unbiased=False) < 0.5
    assert lost(unbiased=True) == pytest.approx(1, abs=0.25)


def test_mistakes_get_one_line() -> None:
    data = Representation.of("x", identity, cloud(99, 3, seed=0))
    student = ConsistencyModel(Points(), VE)
    with pytest.raises(ValueError, match="population 3 is too small for a representation of 3 features"):
        FDConfig(population=3).build(student, None, [data])
    with pytest.raises(ValueError, match="needs a representation"):
        FDConfig().build(student, None)
    with pytest.raises(ValueError, match="trains a one-step model, not a Denoiser"):
        FDConfig().build(Denoiser(Points(), VE), None, [data])
    with pytest.raises(ValueError, match="anchor must be a number from 0 on, got -1"):
        FDConfig(anchor=-1)
    with pytest.raises(ValueError, match=r"times must be positive and fall from step to step, got \(0.2, 0.9\)"):
        FDConfig(times=(0.2, 0.9))
    with pytest.raises(ValueError, match="times must be less than the first, 80, got 99"):
        FDConfig(times=(99.0,)).build(student, None, [data])
    with pytest.raises(ValueError, match="times are for a consistency model, not for a FlowMap"):
        FDConfig(times=(0.9,)).build(FlowMap(Points(), LinearFlow()), None, [data])
    with pytest.raises(ValueError, match="moments must be one of running, queue, got 'all'"):
        FDConfig(moments="all")  # type: ignore[arg-type]
