"""Paths: derivatives, inverses and the change from one path to another."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic import PATHS, GaussianDenoiser, GaussianNet
from unistep.core.flowmap import Denoiser
from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, VariancePreserving, expand_to, match_snr

DOUBLE = torch.float64


def times(path: Path, num: int = 41) -> torch.Tensor:
    """Times over the whole range of a path, its ends included."""
    return torch.linspace(path.t_min, path.t_max, num, dtype=DOUBLE)


def test_derivatives_agree_with_autograd(path: Path) -> None:
    t = times(path).requires_grad_()
    for value, slope in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        y = value(t)
        wanted = torch.autograd.grad(y.sum(), t)[0] if y.requires_grad else torch.zeros_like(t)
        torch.testing.assert_close(slope(t), wanted, rtol=1e-10, atol=1e-12)


def test_closed_forms_at_hand_computed_points() -> None:
    t = torch.tensor([0.25], dtype=DOUBLE)
    assert VarianceExploding().sigma(t).item() == 0.25
    assert VarianceExploding().alpha(t).item() == 1
    assert LinearFlow().alpha(t).item() == 0.75
    assert TrigFlow(sigma_data=2.0).sigma(t).item() == pytest.approx(2 * math.sin(0.25))
    # Song et al. 2021, equation 33: the mean coefficient is exp(-t^2 (b1 - b0) / 4 - t b0 / 2).
    assert VariancePreserving().alpha(t).item() == pytest.approx(math.exp(-(0.25**2) * 19.9 / 4 - 0.25 * 0.1 / 2))


def test_variance_preserving_and_trig_paths_keep_the_variance() -> None:
    t = times(PATHS["vp"])
    torch.testing.assert_close(PATHS["vp"].alpha(t) ** 2 + PATHS["vp"].sigma(t) ** 2, torch.ones_like(t))
    trig = TrigFlow(sigma_data=0.7)
    t = times(trig)
    torch.testing.assert_close((0.7 * trig.alpha(t)) ** 2 + trig.sigma(t) ** 2, torch.full_like(t, 0.49))


def test_times_invert_the_ratio(path: Path) -> None:
    t = times(path)
    torch.testing.assert_close(path.time_at(path.ratio(t)), t, rtol=1e-9, atol=1e-12)


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(PATHS)), log_ratio=st.floats(math.log(0.002), math.log(80)))
def test_ratio_inverts_times_in_single_precision(name: str, log_ratio: float) -> None:
    ratio = torch.tensor([math.exp(log_ratio)])
    torch.testing.assert_close(PATHS[name].ratio(PATHS[name].time_at(ratio)), ratio, rtol=2e-4, atol=0)


@pytest.mark.parametrize("name", ["linear", "vp", "trig"])
def test_small_ratios_keep_their_relative_precision(name: str) -> None:
    ratio = torch.tensor([1e-5, 1e-3, 2e-3])
    exact = PATHS[name].time_at(ratio.double())
    torch.testing.assert_close(PATHS[name].time_at(ratio).double(), exact, rtol=1e-6, atol=0)


def test_a_variance_preserving_path_with_constant_beta_has_an_inverse() -> None:
    path = VariancePreserving(beta_min=3.0, beta_d=0.0)
    t = times(path)
    torch.testing.assert_close(path.time_at(path.ratio(t)), t)


def test_ends_have_the_declared_noise_to_signal_ratio() -> None:
    for name in ("ve", "trig", "linear"):
        path = PATHS[name]
        assert path.ratio(torch.tensor([path.t_min], dtype=DOUBLE)).item() == pytest.approx(0.002)
        assert path.ratio(torch.tensor([path.t_max], dtype=DOUBLE)).item() == pytest.approx(80)
    linear = LinearFlow()
    assert LinearFlow(sigma_max=math.inf).t_max == 1.0
    assert linear.ratio(torch.tensor([1.0])).item() == math.inf
    assert linear.time_at(torch.tensor([0.0, math.inf])).tolist() == [0.0, 1.0]


def test_the_ratio_at_a_right_angle_is_infinite_and_not_negative() -> None:
    # In float32 the cosine of the number nearest pi/2 is -4e-8.
    t = torch.tensor([math.pi / 2])
    assert torch.cos(t).item() < 0
    assert TrigFlow().ratio(t).item() == math.inf
    assert TrigFlow().time_at(TrigFlow().ratio(t)).item() == pytest.approx(math.pi / 2)


def test_signal_to_noise_falls_along_the_path(path: Path) -> None:
    snr = path.log_snr(times(path, 200))
    assert (snr.diff() < 0).all()
    middle = times(path)[20:21]
    assert snr.numel() == 200
    wanted = 2 * math.log(path.alpha(middle).item() / path.sigma(middle).item())
    assert path.log_snr(middle).item() == pytest.approx(wanted)


def test_perturb_and_velocity_are_the_path_and_its_derivative(path: Path, generator: torch.Generator) -> None:
    t = times(path, 5)
    x0, noise = (torch.randn(5, 3, 2, generator=generator, dtype=DOUBLE) for _ in range(2))
    _, slope = torch.func.jvp(lambda u: path.perturb(x0, noise, u), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(path.velocity(x0, noise, t), slope, rtol=1e-9, atol=1e-10)
    by_hand = path.alpha(t)[2].item() * x0[2, 1, 0].item() + path.sigma(t)[2].item() * noise[2, 1, 0].item()
    assert path.perturb(x0, noise, t)[2, 1, 0].item() == pytest.approx(by_hand)


def test_velocity_and_denoised_are_inverse_to_each_other(path: Path, generator: torch.Generator) -> None:
    t = times(path, 6)
    x_t, x0 = (torch.randn(6, 4, generator=generator, dtype=DOUBLE) for _ in range(2))
    v = path.velocity_from_denoised(x_t, x0, t)
    torch.testing.assert_close(path.denoised_from_velocity(x_t, v, t), x0, rtol=1e-6, atol=1e-8)


def test_velocity_of_a_pair_is_recovered_from_its_clean_signal(path: Path, generator: torch.Generator) -> None:
    t = times(path, 6)
    x0, noise = (torch.randn(6, 4, generator=generator, dtype=DOUBLE) for _ in range(2))
    x_t = path.perturb(x0, noise, t)
    torch.testing.assert_close(path.velocity_from_denoised(x_t, x0, t), path.velocity(x0, noise, t))
    torch.testing.assert_close(path.denoised_from_velocity(x_t, path.velocity(x0, noise, t), t), x0)


def test_the_edm_velocity_is_the_distance_to_the_denoised_over_t(generator: torch.Generator) -> None:
    t = torch.tensor([0.5, 3.0])
    x_t, x0 = torch.randn(2, 4, generator=generator), torch.randn(2, 4, generator=generator)
    wanted = (x_t - x0) / expand_to(t, x_t)
    torch.testing.assert_close(VarianceExploding().velocity_from_denoised(x_t, x0, t), wanted)


@pytest.mark.parametrize("source", sorted(PATHS))
@pytest.mark.parametrize("target", sorted(PATHS))
def test_matching_keeps_the_ratio_and_the_clean_signal(source: str, target: str, generator: torch.Generator) -> None:
    a, b = PATHS[source], PATHS[target]
    t = a.time_at(torch.tensor([0.01, 0.3, 1.0, 5.0, 60.0], dtype=DOUBLE))
    x0, noise = (torch.randn(5, 2, 2, generator=generator, dtype=DOUBLE) for _ in range(2))
    moved, t_moved = match_snr(a.perturb(x0, noise, t), t, a, b)
    torch.testing.assert_close(b.ratio(t_moved), a.ratio(t))
    torch.testing.assert_close(moved, b.perturb(x0, noise, t_moved))


@pytest.mark.parametrize("source", sorted(PATHS))
@pytest.mark.parametrize("target", sorted(PATHS))
def test_a_denoiser_of_one_path_reads_another(source: str, target: str, generator: torch.Generator) -> None:
    """The same raw network, exact for a Gaussian, gives the same clean signal on both paths."""
    a, b = PATHS[source], PATHS[target]
    net = GaussianNet(std=0.8)
    t = a.time_at(torch.tensor([0.01, 0.3, 1.0, 5.0, 60.0], dtype=DOUBLE))
    x_t = torch.randn(5, 3, generator=generator, dtype=DOUBLE) * expand_to(a.sigma(t) + a.alpha(t), torch.empty(5, 3))
    here = Denoiser(net, a)(x_t, t)
    there = Denoiser(net, b)(*match_snr(x_t, t, a, b))
    torch.testing.assert_close(there, here, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(here, GaussianDenoiser(a, mean=0.0, std=0.8)(x_t, t), rtol=1e-7, atol=1e-9)


def test_pure_noise_moves_between_paths_that_reach_it() -> None:
    x = torch.tensor([[1.5]])
    moved, t = match_snr(x, torch.tensor([1.0]), LinearFlow(), TrigFlow(sigma_data=0.5))
    assert t.item() == pytest.approx(math.pi / 2)
    assert moved.item() == pytest.approx(0.75)
    back, t = match_snr(moved, t, TrigFlow(sigma_data=0.5), LinearFlow())
    assert t.item() == pytest.approx(1.0)
    assert back.item() == pytest.approx(1.5)


def test_matching_a_path_with_itself_changes_nothing(path: Path) -> None:
    x, t = torch.randn(2, 3), torch.full((2,), path.t_max)
    moved, t_moved = match_snr(x, t, path, path)
    assert moved is x
    assert t_moved is t
