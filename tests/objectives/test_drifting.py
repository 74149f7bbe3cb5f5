"""Drifting models: the field by hand and against the authors' numbers, its symmetry, eight modes in the plane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from analytic import GaussianFlow, PlanarNet
from parity.reference import reference
from planar import NOISE, shares, train
from unistep.core.condition import Label
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import Path, VarianceExploding, expand_to
from unistep.core.sampling import sample_one_step
from unistep.core.seeding import ShardGenerator
from unistep.objectives.drifting import Drifting, DriftingConfig, drifting_field

VE = VarianceExploding()


class Given(ConsistencyModel):
    """A generator that answers the given samples, times a trainable number."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__(nn.Identity(), VE)
        self.samples, self.gain = samples, nn.Parameter(samples.new_tensor(1.0))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        return self.gain * self.samples


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field(x: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    return drifting_field(torch.cdist(x, positive), torch.cdist(x, negative), positive, negative, temperature)


def test_the_field_is_that_of_the_paper() -> None:
    """Equation 11 in loops, with the kernel normalised over the samples and over the points."""
    x, positive, negative, temperature = points(3, 2), points(4, 2, seed=1) + 0.5, points(5, 2, seed=2), 0.7
    samples = torch.cat([positive, negative])
    kernel = torch.tensor([[math.exp(-float((a - b).norm()) / temperature) for b in samples] for a in x]).double()
    wanted = torch.zeros_like(x)
    for i in range(3):
        for j in range(4):
            for k in range(4, 9):
                weights = [
                    math.sqrt(kernel[i, n] / kernel[i].sum() * kernel[i, n] / kernel[:, n].sum()) for n in (j, k)
                ]
                wanted[i] += weights[0] * weights[1] * (samples[j] - samples[k])
    torch.testing.assert_close(field(x, positive, negative, temperature), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.02, 0.2, 2.0])
def test_swapping_the_samples_turns_the_field(temperature: float) -> None:
    """The paper's condition for rest: what attracts and what repels cancel where both are the same."""
    x, positive, negative = points(6, 3), points(5, 3, seed=1), points(7, 3, seed=2)
    forth, back = field(x, positive, negative, temperature), field(x, negative, positive, temperature)
    torch.testing.assert_close(forth, -back)
    assert forth.abs().max() > 1e-6
    assert field(x, positive, positive, temperature).abs().max() < 1e-12


def test_the_loss_is_that_of_the_authors() -> None:
    numbers = reference("drifting")
    generated, data = (
        torch.tensor(numbers[name], dtype=torch.float64).view(numbers["shape"]) for name in ("generated", "data")
    )
    for row in numbers["rows"]:
        config = DriftingConfig(group=12, temperatures=tuple(row["temperatures"]))
        objective = config.build(Given(generated), None)
        loss = objective(data, {}, generator=None, progress=0.0)
        assert loss.per_example.mean().item() == pytest.approx(row["loss"], rel=1e-4)
        sizes = [math.sqrt(square) for square in row["field"]]
        assert loss.logs["drifting/field"].item() == pytest.approx(sum(sizes) / len(sizes), rel=1e-4)
        unit, _, _ = objective.drift(
            generated[None, None], data[None, None], torch.zeros(1, 1, 12, 12, dtype=torch.bool)
        )
        assert unit.item() * math.sqrt(3) == pytest.approx(row["scale"], rel=1e-4)


def test_a_step_down_the_gradient_is_a_step_along_the_field() -> None:
    samples, data = points(8, 3).requires_grad_(), points(8, 3, seed=1) + 1.0

    class Free(Given):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
            return self.samples

    objective = DriftingConfig(group=8, temperatures=(0.3,)).build(Free(samples), None)
    objective(data, {}, generator=None, progress=0.0).per_example.sum().backward()
    assert samples.grad is not None
    x = samples.detach()
    to_data, to_like = torch.cdist(x, data), torch.cdist(x, x)
    mean = (to_data.mean() + to_like.mean()) / 2
    to_like.fill_diagonal_(math.inf)
    step = drifting_field(to_data / mean, to_like / mean, data, x, 0.3)
    torch.testing.assert_close(-samples.grad / samples.grad.norm(), step / step.norm())
    assert ((x + 0.1 * step / step.norm()).mean(dim=0) > x.mean(dim=0)).all()


def test_generated_data_is_at_rest(path: Path) -> None:
    """Gaussian data from its exact map: the drift has mean zero; too narrow a law is spread, too wide gathered."""
    x0 = 0.3 + 0.7 * points(3840, 2)
    slopes = []
    for gain in (0.9, 1.0, 1.1):

        class Wider(GaussianFlow):
            def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
                return self.mean + self.gain * (GaussianFlow(self.path)(x, t, s) - self.mean)

        student = Wider(path).double()
        with torch.no_grad():
            student.gain.fill_(gain)
        objective = DriftingConfig(group=128, temperatures=(0.2, 1.0)).build(student, None)
        loss = objective(x0, {}, generator=torch.Generator().manual_seed(1), progress=0.0).per_example
        (slope,) = torch.autograd.grad(loss.mean(), student.gain)
        slopes.append(slope.item())
    assert slopes[0] < 0 < slopes[2]
    assert abs(slopes[1]) < 0.25 * min(-slopes[0], slopes[2])


def test_the_field_falls_as_the_laws_approach_while_the_loss_does_not() -> None:
    data = points(256, 2)
    fields, losses = [], []
    for shift in (2.0, 0.5, 0.0):
        objective = DriftingConfig(group=256, temperatures=(0.5,)).build(Given(points(256, 2, seed=1) + shift), None)
        loss = objective(data, {}, generator=None, progress=0.0)
        fields.append(loss.logs["drifting/field"].item())
        losses.append(loss.per_example.mean().item())
    assert fields[0] > 2 * fields[1] > 4 * fields[2]
    assert losses == pytest.approx([1.0, 1.0, 1.0])


def test_units_make_the_loss_blind_to_scale() -> None:
    samples, data = points(16, 4), points(16, 4, seed=1)
    losses = [
        DriftingConfig(group=16).build(Given(scale * samples), None)(scale * data, {}, generator=None, progress=0.0)
        for scale in (1.0, 1e-2, 1e3)
    ]
    for loss in losses[1:]:
        torch.testing.assert_close(loss.per_example, losses[0].per_example)


def test_different_conditions_do_not_interact() -> None:
    """Each label of a group drifts as a group of its own would, in units that are common to both."""
    samples, data = points(16, 3), points(16, 3, seed=1)
    label = torch.tensor([0, 1] * 8)
    objective = DriftingConfig(group=16, temperatures=(0.4,)).build(Given(samples), None)
    apart = objective.apart({"label": Label(label)}, samples)[:, None]
    unit, drift, size = objective.drift(samples[None, None], data[None, None], apart)
    pairs = [torch.cdist(samples[label == c], v[label == c]) for c in (0, 1) for v in (data, samples)]
    mean = torch.cat([p.flatten() for p in pairs]).mean()
    torch.testing.assert_close(unit.squeeze(), mean / math.sqrt(3))
    for c in (0, 1):
        x, y = samples[label == c], data[label == c]
        to_data, to_like = torch.cdist(x, y) / mean, torch.cdist(x, x) / mean
        to_like.fill_diagonal_(math.inf)
        alone = drifting_field(to_data, to_like, y / unit.squeeze(), x / unit.squeeze(), 0.4)
        torch.testing.assert_close(drift[0, 0, label == c] * size, alone)


def test_a_label_that_comes_once_does_not_drift() -> None:
    samples, data = points(8, 3), points(8, 3, seed=1)
    objective = DriftingConfig(group=8).build(Given(samples), None)
    apart = objective.apart({"label": Label(torch.tensor([0, 0, 0, 0, 0, 0, 0, 7]))}, samples)
    assert apart.sum() == 14
    _, drift, _ = objective.drift(samples[None, None], data[None, None], apart[:, None])
    assert drift.isfinite().all()
    assert not drift[0, 0, 7].any()
    assert drift[0, 0, :7].abs().min() > 0
    loss = objective(data, {"label": torch.arange(8)}, generator=None, progress=0.0).per_example
    assert not loss.any()


def test_features_take_the_place_of_the_signal_and_their_losses_add() -> None:
    def features(x: Tensor) -> Sequence[Tensor]:
        return x[:, :2], x.view(-1, 2, 3)

    samples, data = points(16, 6), points(16, 6, seed=1)
    config = DriftingConfig(group=16)
    got = Drifting(Given(samples), config, features)(data, {}, generator=None, progress=0.0).per_example
    first = config.build(Given(samples[:, :2]), None)(data[:, :2], {}, generator=None, progress=0.0).per_example
    second = Drifting(Given(samples), config, lambda x: x.view(-1, 2, 3))(data, {}, generator=None, progress=0.0)
    torch.testing.assert_close(got, first + second.per_example)


def test_a_network_of_features_is_frozen() -> None:
    features = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.5))
    student = ConsistencyModel(PlanarNet(8), VE)
    objective = Drifting(student, DriftingConfig(group=4), features).train()
    assert not features[2].training
    loss = objective(torch.randn(8, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0).per_example
    loss.mean().backward()
    assert all(p.grad is None for p in features.parameters())
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())
    assert len([name for name in objective.state_dict() if "0.weight" in name and "net" not in name]) == 1


def test_shares_that_hold_whole_groups_have_the_losses_of_the_whole() -> None:
    objective = DriftingConfig(group=4).build(ConsistencyModel(PlanarNet(8), VE), None)
    x0, label = torch.randn(12, 2), {"label": torch.zeros(12, dtype=torch.long)}
    whole = objective(x0, label, generator=torch.Generator().manual_seed(5), progress=0.4).per_example
    parts = [
        objective(
            x0[start : start + 4],
            {"label": label["label"][:4]},
            generator=ShardGenerator(torch.Generator().manual_seed(5), start, start + 4, 12),
            progress=0.4,
        ).per_example
        for start in (0, 4, 8)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"group 4 does not divide the 6 examples .* or another --objective.group"):
        objective(x0[:6], {}, generator=None, progress=0.0)


def test_only_the_jump_from_the_largest_time_is_made(path: Path) -> None:
    calls: list[tuple[Tensor, Tensor, object]] = []

    class Spy(PlanarNet):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            calls.append((x, t, condition))
            return super().forward(x, t, s, condition)

    torch.manual_seed(0)
    student = ConsistencyModel(Spy(8), path)
    label = {"label": torch.tensor([0, 1, 0, 1])}
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(3))
    objective = DriftingConfig(group=4).build(student, None)
    objective(torch.randn(4, 2), label, generator=torch.Generator().manual_seed(3), progress=0.0)
    ((x, t, told),) = calls
    scale = expand_to(path.sigma(torch.full((4,), path.t_max)), noise)
    sample_one_step(student, noise, label)
    torch.testing.assert_close(x, calls[1][0])
    torch.testing.assert_close(t, calls[1][1])
    assert torch.equal(told["label"].index, label["label"])
    assert scale.min() > 0


def test_under_autocast_the_loss_is_in_full_precision() -> None:
    student = ConsistencyModel(PlanarNet(8), VE)
    objective = DriftingConfig(group=8).build(student, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(torch.randn(16, 2), {}, generator=torch.Generator().manual_seed(0), progress=0.0).per_example
    assert loss.dtype == torch.float32
    assert loss.shape == (16,)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 1}, "group must be at least 2"),
        ({"temperatures": ()}, "temperatures must be positive numbers"),
        ({"temperatures": (0.1, 0.0)}, r"got \(0.1, 0.0\)"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DriftingConfig(**options)  # type: ignore[arg-type]


@pytest.mark.timeout(900)  # about six seconds of CPU, on machines that may be busy
@pytest.mark.usefixtures("_without_type_checks")
def test_eight_modes_are_found_in_one_step() -> None:
    student = ConsistencyModel(PlanarNet(64), VE, boundary=0.0)

    @torch.no_grad()
    def judge(model: ConsistencyModel) -> tuple[float, float]:
        return shares(sample_one_step(model, NOISE))

    untrained = judge(student)
    assert untrained[0] < 0.01
    assert untrained[1] > 0.9
    smallest, outside = judge(train(DriftingConfig(group=128).build(student, None), student, steps=200, batch=128))
    assert smallest > 0.04
    assert outside < 0.5
