"""Shortcut models: consistent on the exact map, flow matching without jumps, the halves where the paper puts them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from planar import train
from two_times import (
    LINEAR,
    TOY,
    GaussianFlowMap,
    LabelledNet,
    TwoTimesNet,
    gaussian_data,
    judge,
    loss_and_slope,
    shares_add_up,
)
from unistep.core.flowmap import FlowMap
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, VariancePreserving
from unistep.objectives.base import Objective
from unistep.objectives.shortcut import Shortcut, ShortcutConfig

BOUNDED = pytest.mark.parametrize("path", [LinearFlow(), TrigFlow(), VariancePreserving()])


def fix_length(monkeypatch: pytest.MonkeyPatch, halvings: int) -> None:
    """Let every jump be of one length."""
    monkeypatch.setattr(
        "unistep.objectives.shortcut.randint", lambda high, num, generator: torch.full((num,), halvings)
    )


@BOUNDED
@pytest.mark.parametrize("starts", ["grid", "uniform"])
@pytest.mark.parametrize("target_ema", [0.0, 0.99])
def test_the_exact_map_is_consistent(
    path: Path, starts: str, target_ema: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ShortcutConfig(sections=16, share=1.0, starts=starts, target_ema=target_ema)  # type: ignore[arg-type]
    for halvings in (0, 1, 2):
        fix_length(monkeypatch, halvings)
        student = GaussianFlowMap(path)
        objective = Shortcut(student, config)
        exact, slope = loss_and_slope(objective, student, gaussian_data(200))
        assert exact.max() < 1e-20
        assert abs(slope) < 1e-9
        with torch.no_grad():
            student.gain.fill_(0.8)
        wrong, wrong_slope = loss_and_slope(objective, student, gaussian_data(200))
        assert wrong.mean() > 1e-6
        assert abs(wrong_slope) > 1e-5


def test_the_smallest_jump_is_two_euler_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their velocity is wrong by the length of a step, and the squared error by its square."""
    losses = []
    for sections in (64, 128):
        fix_length(monkeypatch, sections.bit_length() - 2)
        student = GaussianFlowMap(LINEAR)
        objective = Shortcut(student, ShortcutConfig(sections=sections, share=1.0))
        losses.append(loss_and_slope(objective, student, gaussian_data(4000))[0].mean().item())
    assert losses[1] > 0
    assert losses[0] / losses[1] == pytest.approx(4, rel=0.15)


@BOUNDED
def test_without_jumps_it_is_flow_matching(path: Path) -> None:
    torch.manual_seed(0)
    student, x0 = FlowMap(TwoTimesNet(16).double(), path, boundary=0.0), gaussian_data(64, size=2)
    objective = Shortcut(student, ShortcutConfig(share=0.0, sections=8))
    asked = record(student)
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(4), progress=0.0).per_example
    x_t, t, s = asked[-1]
    assert torch.equal(t, s)
    places = t / path.t_max * 8
    torch.testing.assert_close(places, places.round())
    assert set(places.round().tolist()) == set(range(1, 9))
    sigma, alpha = path.sigma(t)[:, None], path.alpha(t)[:, None]
    noise = (x_t - alpha * x0) / sigma
    v = path.d_alpha(t)[:, None] * x0 + path.d_sigma(t)[:, None] * noise
    wanted = (student.velocity(x_t, t, t) - v).square().mean(dim=1)
    torch.testing.assert_close(loss, wanted, rtol=1e-8, atol=1e-12)
    gradients = [torch.autograd.grad(value.mean(), list(student.parameters())) for value in (loss, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


def record(model: FlowMap) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Keep the point and the times that a model's velocity is asked at from now on."""
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    velocity = model.velocity

    def spy(x: Tensor, t: Tensor, s: Tensor, condition: object = None) -> Tensor:
        asked.append((x, t, s))
        return velocity(x, t, s, condition)  # type: ignore[arg-type]

    model.velocity = spy  # type: ignore[method-assign]
    return asked


def test_a_jump_is_taught_by_its_two_halves() -> None:
    """The formula of the paper at the times that were drawn, with a target that is not the student."""
    student, x0 = FlowMap(LabelledNet(), TrigFlow(), boundary=0.0), gaussian_data(400)
    objective = Shortcut(student, ShortcutConfig(sections=8, share=0.5))
    assert isinstance(objective.target, FlowMap)
    objective.target.sigma_data = 0.4
    halves, jumps = record(objective.target), record(student)
    condition = {"label": torch.arange(400) % 3}
    loss = objective(x0, condition, generator=torch.Generator().manual_seed(4), progress=0.0)
    (x, t, s), unit = jumps[0], student.path.t_max / 8
    jumping = t != s
    assert 0.4 < jumping.double().mean() < 0.6
    lengths = ((t - s) / unit)[jumping]
    torch.testing.assert_close(lengths, lengths.round())
    assert set(lengths.round().tolist()) == {2, 4, 8}
    starts = t[jumping] / unit / lengths  # multiples of their own length
    torch.testing.assert_close(starts, starts.round())
    assert s.min() >= 0

    x, t, s, told = x[jumping], t[jumping], s[jumping], {"label": condition["label"][jumping]}
    middle, tiny = (t + s) / 2, (t - s) / unit < 2.5
    assert len(halves) == 2
    first = objective.target.velocity(x, t, torch.where(tiny, t, middle), told)
    ahead = x + (middle - t)[:, None] * first
    second = objective.target.velocity(ahead, middle, torch.where(tiny, middle, s), told)
    wanted = (student.velocity(x, t, s, told) - (first + second) / 2).square().mean(dim=1)
    torch.testing.assert_close(loss.per_example[jumping], wanted, rtol=1e-9, atol=1e-12)
    assert loss.logs["shortcut/jump"].item() == pytest.approx(wanted.mean().item())
    assert loss.logs["shortcut/velocity"].item() == pytest.approx(loss.per_example[~jumping].mean().item())


def test_the_halves_are_a_constant_for_the_gradient() -> None:
    """Also where the student itself takes them."""
    torch.manual_seed(0)
    student, x0 = FlowMap(TwoTimesNet(16).double(), TrigFlow(), boundary=0.0), gaussian_data(32, size=2)
    objective = Shortcut(student, ShortcutConfig(sections=8, share=1.0, target_ema=0.0))
    calls = record(student)
    loss = objective(x0, {}, generator=torch.Generator().manual_seed(4), progress=0.0).per_example
    (x, t, s), unit = calls[-1], student.path.t_max / 8
    middle, tiny = (t + s) / 2, (t - s) / unit < 2.5
    with torch.no_grad():
        first = student.velocity(x, t, torch.where(tiny, t, middle))
        ahead = x + (middle - t)[:, None] * first
        mean = (first + student.velocity(ahead, middle, torch.where(tiny, middle, s))) / 2
    wanted = (student.velocity(x, t, s) - mean).square().mean(dim=1)
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(value.mean(), list(student.parameters())) for value in (loss, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


def test_jumps_from_anywhere_stay_on_the_way() -> None:
    student = FlowMap(LabelledNet(), LINEAR, boundary=LINEAR.t_min)
    asked = record(student)
    objective = Shortcut(student, ShortcutConfig(sections=8, starts="uniform", share=0.5))
    objective(gaussian_data(4000), {"label": torch.zeros(4000)}, generator=torch.Generator(), progress=0.0)
    _, t, s = asked[-1]
    unit = (LINEAR.t_max - LINEAR.t_min) / 8
    lengths = (t - s) / unit
    torch.testing.assert_close(lengths, lengths.round(), rtol=0, atol=1e-5)
    assert s.min() >= LINEAR.t_min
    assert t.max() <= LINEAR.t_max + 1e-7
    assert (t - LINEAR.t_min).div(unit).frac().std() > 0.25  # uniform within a section
    for length in (0, 2, 4):
        start = t[lengths.round() == length]
        assert start.min() < LINEAR.t_min + unit * (length + 0.2)
        assert start.max() > LINEAR.t_max - 0.2 * unit


def test_guidance_teaches_the_smallest_jumps_only() -> None:
    student, x0 = FlowMap(LabelledNet(), LINEAR, boundary=0.0), gaussian_data(300)
    condition = {"label": torch.arange(300) % 3}

    def losses(guidance: float) -> tuple[Tensor, Tensor]:
        config = ShortcutConfig(sections=8, share=0.5, guidance=guidance, label_dropout=1e-9)
        asked = record(student)
        loss = Shortcut(student, config)(x0, condition, generator=torch.Generator().manual_seed(4), progress=0.0)
        del student.velocity
        return loss.per_example.detach(), (asked[-1][1] - asked[-1][2]) / (LINEAR.t_max / 8)

    (plain, lengths), (guided, _) = losses(1.0), losses(3.0)
    changed = (plain - guided).abs() > 1e-9
    smallest = (lengths - 2).abs() < 0.5
    assert smallest.any()
    assert torch.equal(changed, smallest)


def test_labels_are_dropped_where_the_velocity_is_learned() -> None:
    seen: list[Tensor] = []

    class Net(LabelledNet):
        def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
            assert isinstance(condition, dict)
            assert s is not None
            seen.append(torch.stack([condition["label"].index, (t == s).to(t)]))
            return super().forward(x, t, s, condition)

    objective = Shortcut(FlowMap(Net(), LINEAR), ShortcutConfig(label_dropout=0.3, target_ema=0.0))
    objective(gaussian_data(4000), {"label": torch.ones(4000).long()}, generator=torch.Generator(), progress=0.0)
    label, still = seen[-1]
    assert 0.72 < still.mean() < 0.78
    assert 0.27 < (label[still == 1] == -1).double().mean() < 0.33
    assert (label[still == 0] == 1).all()


@pytest.mark.parametrize("starts", ["grid", "uniform"])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_two_processes_have_the_losses_of_one(starts: str, share: float) -> None:
    config = ShortcutConfig(share=share, starts=starts, guidance=2.0, label_dropout=0.3)  # type: ignore[arg-type]
    objective = Shortcut(FlowMap(LabelledNet(), LINEAR), config)
    assert shares_add_up(objective, gaussian_data(16), {"label": torch.arange(16) % 4})


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_same_calls_are_made_whoever_jumps(share: float) -> None:
    student = FlowMap(LabelledNet(), LINEAR)
    objective = Shortcut(student, ShortcutConfig(share=share, target_ema=0.0))
    asked = record(student)
    loss = objective(gaussian_data(4), {"label": torch.zeros(4)}, generator=torch.Generator(), progress=0.0)
    assert len(asked) == 3
    assert loss.per_example.isfinite().all()
    assert all(value.isfinite() for value in loss.logs.values())


def test_the_copy_follows_and_drops_nothing_out() -> None:
    torch.manual_seed(0)
    student = FlowMap(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), LINEAR)
    objective: Objective = Shortcut(student, ShortcutConfig(target_ema=0.75))
    target = objective.target
    assert isinstance(target, FlowMap)
    objective.train()
    assert student.training
    assert not any(module.training for module in target.modules())
    assert not any(p.requires_grad for p in target.parameters())
    before = [p.clone() for p in target.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    objective.after_step(0.5)
    for moved, old in zip(target.parameters(), before, strict=True):
        torch.testing.assert_close(moved, old + 0.25)
    assert Shortcut(student, ShortcutConfig(target_ema=0.0)).target is None


@pytest.mark.parametrize("target_ema", [0.0, 0.9])
def test_under_autocast_the_loss_is_float32_and_every_weight_has_a_gradient(target_ema: float) -> None:
    torch.manual_seed(0)
    student = FlowMap(TwoTimesNet(16), LINEAR)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = Shortcut(student, ShortcutConfig(target_ema=target_ema, share=0.5))(
            gaussian_data(32, size=2).float(), {}, generator=torch.Generator(), progress=0.0
        ).per_example
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sections": 100}, "power of two from 2 on, got 100"),
        ({"sections": 1}, "power of two"),
        ({"share": 1.5}, "share must be"),
        ({"label_dropout": 1.0}, "label_dropout"),
        ({"target_ema": 1.0}, "target_ema"),
        ({"guidance": 2.0}, "label_dropout above 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShortcutConfig(**options)  # type: ignore[arg-type]


def test_paths_without_equal_steps_are_refused() -> None:
    assert isinstance(ShortcutConfig().build(FlowMap(TwoTimesNet(8), LINEAR), None), Shortcut)
    with pytest.raises(ValueError, match="LinearFlow or TrigFlow"):
        ShortcutConfig().build(FlowMap(TwoTimesNet(8), VarianceExploding()), None)


@pytest.mark.usefixtures("_without_type_checks")
@pytest.mark.timeout(900)  # about ten seconds of CPU, on machines that may be busy
def test_eight_modes_are_found_in_one_step_and_in_two() -> None:
    student = FlowMap(TwoTimesNet(), TOY, boundary=0.0)
    untrained = judge(student, [])
    assert untrained[0] < 0.02
    assert untrained[1] > 0.8
    trained = train(Shortcut(student, ShortcutConfig(target_ema=0.95)), student, steps=600)
    for times in ([], [TOY.t_max / 2]):
        smallest, outside, same = judge(trained, times)
        assert smallest > 0.02
        assert outside < 0.65
        assert same > 0.75
