"""Rates along training, clipping, and optimizers by configuration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unistep.training.muon import Muon
from unistep.training.optim import (
    AdamConfig,
    MuonConfig,
    Schedule,
    build_optimizer,
    clip_gradients,
    set_rates,
)
from unistep.training.pace import Leg, Pace


def test_the_schedule_climbs_stays_and_descends() -> None:
    schedule, total = Schedule(warmup_steps=10, decay=0.25), 100
    factors = [schedule.factor(step, step / total) for step in range(total)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[10:76] == [1.0] * 66
    assert factors[75:] == pytest.approx([4 * (1 - k / total) for k in range(75, 100)])
    assert 0 < factors[-1] < 0.05


def test_a_constant_schedule() -> None:
    schedule = Schedule(warmup_steps=0, decay=0.0)
    assert {schedule.factor(step, step / 7) for step in range(7)} == {1.0}


@pytest.mark.parametrize(
    "legs",
    [
        [Leg(0, 0.0, 1000)],
        [Leg(0, 0.0, 250)],
        [Leg(0, 0.0, 900), Leg(300, 1 / 3, 520)],  # other work begins
        [Leg(0, 0.0, 300), Leg(60, 0.2, 800)],  # other work ends
    ],
)
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_runs_of_fewer_steps_go_as_far(legs: list[Leg], decay: float) -> None:
    """The rates sum up to those of the 1,000 steps that they are meant for, however the plan changes on the way."""
    schedule, pace = Schedule(warmup_steps=0, decay=decay, meant_for=1000), Pace(legs)
    factors = [schedule.factor(step, pace.progress(step), pace.share(step)) for step in range(legs[-1].total)]
    # The sum is a Riemann sum of the descent: off by at most a step at each end of a leg, each at most 4 long.
    assert sum(factors) == pytest.approx(1000 * (1 - decay / 2), abs=4 * 2 * len(legs))


def test_longer_runs_keep_their_rates_and_the_shortest_have_a_limit() -> None:
    plain, schedule = Schedule(), Schedule(meant_for=400, longest=3.0)
    for total in (400, 401, 40_000):
        for step in range(0, total, 37):
            at = step, step / total
            assert schedule.factor(*at, 1 / total) == plain.factor(*at, 1 / total) == plain.factor(*at)
    for total in (20, 100):
        assert schedule.factor(10, 10 / total, 1 / total) == pytest.approx(3.0 * plain.factor(10, 10 / total))


@pytest.mark.parametrize("wrong", [{"meant_for": -1}, {"longest": 0.5}, {"longest": math.inf}, {"longest": math.nan}])
def test_impossible_lengths_of_steps(wrong) -> None:
    with pytest.raises(ValueError, match="meant_for must be 0 or more and longest at least 1"):
        Schedule(**wrong)


@pytest.mark.parametrize("wrong", [{"warmup_steps": -1}, {"decay": -0.1}, {"decay": 1.1}, {"decay": math.nan}])
def test_impossible_schedules(wrong) -> None:
    with pytest.raises(ValueError, match="warmup_steps must not be negative and decay must be in"):
        Schedule(**wrong)


def test_every_group_keeps_its_own_peak() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(MuonConfig(lr=0.2, adam_lr=0.03), net, net)
    for factor in (0.5, 0.1, 1.0):
        set_rates(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2 * factor, 0.03 * factor])


def with_gradient(*values: float) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in values]
    for p, value in zip(parameters, values, strict=True):
        p.grad = torch.tensor([value])
    return parameters


def test_long_gradients_are_shortened_and_short_ones_left() -> None:
    parameters = with_gradient(3.0, 4.0)
    assert clip_gradients(parameters, 1.0) == pytest.approx(5.0)
    assert [float(p.grad) for p in parameters if p.grad is not None] == pytest.approx([0.6, 0.8], rel=1e-5)
    assert clip_gradients(parameters, 10.0) == pytest.approx(1.0, rel=1e-5)
    assert [float(p.grad) for p in parameters if p.grad is not None] == pytest.approx([0.6, 0.8], rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradients_are_reported_not_hidden(bad: float) -> None:
    parameters = [*with_gradient(3.0, bad), nn.Parameter(torch.zeros(1))]
    assert not math.isfinite(clip_gradients(parameters, 1.0))
    assert float(parameters[0].grad) == 3.0  # type: ignore[arg-type]


def test_optimizers_by_configuration() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].requires_grad_(False)
    for config, kinds in (
        (AdamConfig(lr=0.1, betas=(0.5, 0.6), weight_decay=0.2), [torch.optim.AdamW]),
        (AdamConfig(kind="radam"), [torch.optim.RAdam]),
        (MuonConfig(lr=0.3, adam_lr=0.4), [Muon, torch.optim.AdamW]),
    ):
        optimizer = build_optimizer(config, net, net)
        (group,) = optimizer.groups
        assert [type(inner) for inner in group.optimizers] == kinds
        held = [p for entry in optimizer.param_groups for p in entry["params"]]
        assert {id(p) for p in held} == {id(p) for p in net.parameters() if p.requires_grad}
        assert len(held) == 6
    ((adam,),) = [group.optimizers for group in build_optimizer(AdamConfig(lr=0.1, betas=(0.5, 0.6)), net, net).groups]
    assert (adam.defaults["lr"], adam.defaults["betas"], adam.defaults["weight_decay"]) == (0.1, (0.5, 0.6), 0.0)
