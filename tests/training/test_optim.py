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
