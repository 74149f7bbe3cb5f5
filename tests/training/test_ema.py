"""Averages of the weights against the integrals that define them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import nn

from unistep.training.ema import EMA, ConstantEMA, PowerEMA


def ema_update(ema: EMA, values: list[float], batch_size: int = 1) -> float:
    """The average after the parameter took ``values`` in turn."""
    for step, value in enumerate(values, start=1):
        ema.followed[0].data.fill_(value)
        ema.update(step, batch_size)
    return float(ema.average[0])


def parameter(value: float = 0.0) -> nn.Parameter:
    return nn.Parameter(torch.full((), value, dtype=torch.float64))


@settings(max_examples=20)
@given(sigma_rel=st.floats(0.01, 0.27))
def test_gamma_is_the_root_that_gives_the_width(sigma_rel: float) -> None:
    r"""The profile :math:`\tau^\gamma` on [0, 1] has the standard deviation that was asked for (equation 121)."""
    gamma = PowerEMA(sigma_rel=sigma_rel).gamma
    inverse = sigma_rel**-2
    assert gamma**3 + 7 * gamma**2 + (16 - inverse) * gamma + 12 - inverse == pytest.approx(0, abs=1e-6 * inverse)
    # A law with density (gamma + 1) tau^gamma.
    mean, square = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)
    assert math.sqrt(square - mean**2) == pytest.approx(sigma_rel, rel=1e-6)


def test_gamma_of_the_paper() -> None:
    """Karras et al. 2024, section 3.1: widths of 5 and 10 % are gamma 16.97 and 6.94."""
    assert PowerEMA(sigma_rel=0.05).gamma == pytest.approx(16.97, abs=0.005)
    assert PowerEMA(sigma_rel=0.10).gamma == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("path", [lambda t: t, lambda t: math.sin(9 * t), lambda t: math.exp(-3 * t)])
def test_the_power_average_is_its_integral(sigma_rel: float, path) -> None:
    r"""A weight that moves along a curve ends at :math:`\int_0^1 (\gamma+1)\tau^\gamma\theta(\tau)d\tau`."""
    config, steps = PowerEMA(sigma_rel=sigma_rel), 4000
    gamma = config.gamma
    wanted, _ = integrate.quad(lambda tau: (gamma + 1) * tau**gamma * path(tau), 0, 1)
    got = ema_update(EMA(config, [parameter(99.0)]), [path(k / steps) for k in range(1, steps + 1)])
    assert got == pytest.approx(wanted, abs=2e-3)


def test_the_power_average_forgets_the_start_at_once() -> None:
    assert ema_update(EMA(PowerEMA(sigma_rel=0.2), [parameter(1e6)]), [3.0]) == 3.0


@pytest.mark.parametrize("batch_size", [1, 16])
def test_the_half_life_is_what_it_says(batch_size: int) -> None:
    """Of a jump, half is taken in after the half-life, whatever the batch."""
    config = ConstantEMA(half_life=320, ramp=0.0)
    assert ema_update(EMA(config, [parameter(0.0)]), [1.0] * (320 // batch_size), batch_size) == pytest.approx(0.5)
    assert ema_update(EMA(config, [parameter(0.0)]), [1.0] * (640 // batch_size), batch_size) == pytest.approx(0.75)


def test_the_ramp_shortens_the_half_life_at_the_start() -> None:
    config = ConstantEMA(half_life=1000, ramp=0.1)
    assert config.decay(10, 100) == 0.5  # 1,000 images seen: half-life 100
    assert config.decay(100, 100) == config.decay(10_000, 100) == pytest.approx(0.5**0.1)
    # A random start is nearly gone after half of the ramp.
    assert ema_update(EMA(config, [parameter(1.0)]), [0.0] * 500, 10) < 1e-3


def test_swapping_twice_changes_nothing() -> None:
    parameters = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(5).double())]
    ema = EMA(PowerEMA(), parameters)
    places = [p.data_ptr() for p in parameters]
    for p in parameters:
        p.data.normal_()
    now, average = [p.detach().clone() for p in parameters], [a.clone() for a in ema.average]
    ema.swap()
    assert all(torch.equal(p, a) for p, a in zip(parameters, average, strict=True))
    assert all(torch.equal(a, p) for a, p in zip(ema.average, now, strict=True))
    ema.swap()
    assert all(torch.equal(p, n) for p, n in zip(parameters, now, strict=True))
    assert [p.data_ptr() for p in parameters] == places  # in place: optimizers and wrappers hold on to them


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.28, 1.0, math.nan])
def test_widths_that_no_power_has(sigma_rel: float) -> None:
    with pytest.raises(ValueError, match=r"sigma_rel must be between 0 and 0.28, got"):
        PowerEMA(sigma_rel=sigma_rel)


@pytest.mark.parametrize("wrong", [{"half_life": 0.0}, {"half_life": float("nan")}, {"ramp": -0.1}])
def test_half_lives_that_there_are_not(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="half_life must be positive and ramp 0 or more"):
        ConstantEMA(**wrong)
