"""Laws of times, curricula and grids against the formulas of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unistep.core.timesteps import (
    ConstantLevels,
    DiscretisedLogNormal,
    DoublingCurriculum,
    LogNormal,
    RatioCurriculum,
    SqrtCurriculum,
    UniformIndex,
    karras_grid,
)


@pytest.mark.parametrize("num", [2, 5, 18, 40, 151])
def test_karras_grid_is_the_formula(num: int) -> None:
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    wanted = [(high + i / (num - 1) * (low - high)) ** 7 for i in range(num)]
    grid = karras_grid(num, 0.002, 80.0)
    assert grid.dtype == torch.float32
    assert grid.tolist() == pytest.approx(wanted, rel=1e-6)
    assert (grid[0].item(), grid[-1].item()) == pytest.approx((80.0, 0.002), rel=1e-7)


def test_karras_grid_with_rho_one_is_uniform_and_may_reach_zero() -> None:
    assert karras_grid(5, 0.0, 4.0, rho=1.0).tolist() == pytest.approx([4, 3, 2, 1, 0])
    assert karras_grid(3, 0.0, 4.0)[-1].item() == 0


@settings(max_examples=50)
@given(num=st.integers(2, 300), rho=st.floats(1, 10))
def test_karras_grid_falls_strictly(num: int, rho: float) -> None:
    assert (karras_grid(num, 0.002, 80.0, rho).diff() < 0).all()


def test_karras_grid_of_one_level_starts_at_the_top_and_of_none_is_refused() -> None:
    assert karras_grid(1, 0.002, 80.0).tolist() == [80.0]
    with pytest.raises(ValueError, match="at least one level, got 0"):
        karras_grid(0, 0.002, 80.0)


@pytest.mark.parametrize("ends", [(0.002, math.inf), (1.0, 0.5), (-0.1, 1.0), (0.1, math.nan)])
def test_karras_grid_refuses_ends_that_are_not_finite_and_in_order(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=f"finite ends with t_min below t_max, got {ends[0]} and {ends[1]}"):
        karras_grid(5, *ends)


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (-1.1, 2.0)])
def test_lognormal_draws_follow_their_law(mean: float, std: float, generator: torch.Generator) -> None:
    draws = LogNormal(mean=mean, std=std).draw(5000, generator)
    assert stats.kstest(draws.double().log().numpy(), "norm", args=(mean, std)).pvalue > 0.01
    assert stats.kstest(draws.double().log().numpy(), "norm", args=(mean + 0.2, std)).pvalue < 0.01


def test_draws_belong_to_their_generator() -> None:
    levels = karras_grid(18, 0.002, 80.0).flip(0)
    laws = (
        lambda g: LogNormal().draw(9, g),
        lambda g: DiscretisedLogNormal().draw(9, levels, g),
        lambda g: UniformIndex().draw(9, levels, g),
    )
    for draw in laws:
        first, again, other = (draw(torch.Generator().manual_seed(s)) for s in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize("num", [2, 11, 21, 1281])
def test_discretised_lognormal_probabilities_are_those_of_ict(num: int) -> None:
    """Song & Dhariwal 2023, equation 10, with the standard library's error function."""
    levels = karras_grid(num, 0.002, 80.0).flip(0)
    edges = [math.erf((math.log(v) + 1.1) / (math.sqrt(2) * 2.0)) for v in levels.double().tolist()]
    mass = [b - a for a, b in pairwise(edges)]
    wanted = [m / sum(mass) for m in mass]
    assert DiscretisedLogNormal().probabilities(levels).tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-9)


def test_discretised_lognormal_draws_follow_their_probabilities(generator: torch.Generator) -> None:
    levels = karras_grid(11, 0.002, 80.0).flip(0)
    law = DiscretisedLogNormal()
    counts = torch.bincount(law.draw(20_000, levels, generator), minlength=10).double()
    wanted = law.probabilities(levels).double() * 20_000
    assert stats.chisquare(counts.numpy(), (wanted * 20_000 / wanted.sum()).numpy()).pvalue > 0.01


def test_uniform_index_reaches_every_interval_equally(generator: torch.Generator) -> None:
    counts = torch.bincount(UniformIndex().draw(20_000, karras_grid(5, 0.1, 1.0), generator), minlength=4)
    assert len(counts) == 4
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def exact_levels(k: int, total: int, start: int, end: int) -> int:
    """CT's N(k) in whole numbers: the smallest n with n >= sqrt(...) - 1 is found without a square root."""
    square = Fraction(k, total) * ((end + 1) ** 2 - start**2) + start**2
    n = max(start - 2, 0)
    while Fraction(n + 1) ** 2 < square:
        n += 1
    return n + 1


@pytest.mark.parametrize(("start", "end"), [(2, 150), (2, 200), (10, 1280)])
@pytest.mark.parametrize("total", [1000, 600_000, 800_000])
def test_ct_levels_are_the_papers_formula(start: int, end: int, total: int) -> None:
    curriculum = SqrtCurriculum(start=start, end=end)
    for k in [0, 1, 7, total // 1000, total // 10, total // 3, total // 2, total - 1, total]:
        assert curriculum.levels(k / total) == exact_levels(k, total, start, end), k
    assert curriculum.levels(0.0) == start
    assert curriculum.levels(1.0) == end + 1


def test_ct_levels_do_not_jump_early_at_exact_squares() -> None:
    """(k/K)(s1+1)^2 + ... is the square of a whole number here; rounding must not add a level."""
    curriculum = SqrtCurriculum(start=2, end=150)
    span = 151**2 - 4
    for n in range(2, 152):
        assert curriculum.levels((n * n - 4) / span) == n
        if n < 151:
            assert curriculum.levels((n * n - 4 + 0.5) / span) == n + 1


def test_ct_target_decay_is_the_papers_formula() -> None:
    """mu(k) = exp(s0 log(mu0) / N(k)), with the CIFAR-10 constants."""
    curriculum = SqrtCurriculum(start=2, end=150, target_ema=0.9)
    assert curriculum.target_decay(0.0) == pytest.approx(0.9)
    assert curriculum.target_decay(1.0) == pytest.approx(math.exp(2 * math.log(0.9) / 151))
    decays = [curriculum.target_decay(p / 50) for p in range(51)]
    assert decays == sorted(decays)


def test_ict_levels_double_at_equal_intervals() -> None:
    """Song & Dhariwal 2023, equation 8, with s0 = 10, s1 = 1280 and K = 400,000 (K' = 50,000)."""
    total, curriculum = 400_000, DoublingCurriculum()
    interval = math.floor(total / (math.log2(1280 // 10) + 1))
    assert interval == 50_000
    for k in [0, 1, 49_999, 50_000, 50_001, 99_999, 100_000, 250_000, 349_999, 350_000, 399_999, 400_000]:
        assert curriculum.levels(k / total) == min(10 * 2 ** (k // interval), 1280) + 1, k
    assert curriculum.target_decay(0.5) == 0


def test_constant_levels_stay() -> None:
    constant = ConstantLevels(num=40, target_ema=0.95)
    assert {constant.levels(p) for p in (0.0, 0.5, 1.0)} == {40}
    assert constant.target_decay(0.3) == 0.95


def test_ect_ratio_is_the_papers_formula() -> None:
    """Geng et al. 2024: r/t = 1 - n(t) / q^a, n(t) = 1 + k sigmoid(-b t), k = 8, b = 1, and r >= 0."""
    for q, stages in ((2.0, 8), (4.0, 4)):
        curriculum = RatioCurriculum(q=q, stages=stages)
        for stage in range(stages):
            for t in (0.01, 0.3, 1.0, 5.0, 80.0):
                n = 1 + 8 / (1 + math.exp(t))
                wanted = max(t * (1 - n / q ** (stage + 1)), 0)
                got = curriculum.closer(torch.tensor([t], dtype=torch.float64), (stage + 0.5) / stages).item()
                assert got == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_ect_starts_as_denoising_and_ends_close() -> None:
    t = torch.tensor([0.05, 0.5, 1.0])
    curriculum = RatioCurriculum()
    assert curriculum.closer(t, 0.0).tolist() == [0, 0, 0]
    last = curriculum.closer(t, 1.0)
    assert (last / t > 0.97).all()
    assert (last < t).all()


def test_ect_stages_are_equally_long_and_the_last_one_lasts() -> None:
    curriculum = RatioCurriculum(stages=8)
    assert [curriculum.stage(k / 8) for k in range(8)] == list(range(8))
    assert [curriculum.stage((k + 0.999) / 8) for k in range(8)] == list(range(8))
    assert curriculum.stage(1.0) == 7


@settings(max_examples=100)
@given(t=st.floats(1e-4, 1e3), progress=st.floats(0, 1), stages=st.integers(1, 10), log_end=st.floats(0.1, 20))
def test_the_closer_level_lies_below_the_level_and_not_below_zero(
    t: float, progress: float, stages: int, log_end: float
) -> None:
    """In single precision too, as the weight 1 / (t - r) needs, with the last gap as small as 2**-20."""
    level = torch.tensor([t])
    closer = RatioCurriculum(q=2 ** (log_end / stages * 0.999), stages=stages).closer(level, progress)
    assert 0 <= closer.item() < level.item()


def test_a_curriculum_that_single_precision_cannot_resolve_is_refused() -> None:
    with pytest.raises(ValueError, match=r"q\*\*stages must be at most 2\*\*20, got 16\.0\*\*8; take fewer stages"):
        RatioCurriculum(q=16.0, stages=8)
    with pytest.raises(ValueError, match=r"q must be above 1 and stages at least 1, got 1\.0 and 8"):
        RatioCurriculum(q=1.0)
    with pytest.raises(ValueError, match=r"got 2\.0 and 0"):
        RatioCurriculum(stages=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogNormal(std=-1.0), "a finite mean and a positive std, got -1.2 and -1.0"),
        (lambda: DiscretisedLogNormal(mean=math.inf), "a finite mean and a positive std, got inf and 2.0"),
        (lambda: SqrtCurriculum(start=1, end=1), "must grow from 2 or more .*, got 1 to 1"),
        (lambda: SqrtCurriculum(start=20, end=3), "must grow from 2 or more .*, got 20 to 3"),
        (lambda: SqrtCurriculum(target_ema=1.0), r"target_ema must be from 0 .* to below 1, got 1.0"),
        (lambda: DoublingCurriculum(start=0), "must grow from 1 or more .*, got 0 to 1280"),
        (lambda: ConstantLevels(num=1), "must grow from 2 or more .*, got 1 to 1"),
        (lambda: ConstantLevels(target_ema=-0.1), r"target_ema must be from 0 .* to below 1, got -0.1"),
        (lambda: RatioCurriculum(k=-3.0), "k must be above -1, so that gaps stay open, and b finite, got -3.0"),
        (lambda: RatioCurriculum(b=math.nan), "and b finite, got 8.0 and nan"),
    ],
)
def test_laws_and_curricula_that_make_no_sense_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_target_without_average_has_no_decay() -> None:
    assert SqrtCurriculum(target_ema=0.0).target_decay(0.5) == 0


def test_a_stage_lasts_until_what_data_teaches_has_come_to_the_largest_noise() -> None:
    """The number of targets from one to the next on the way from 1/2 to 80, counted rather than computed."""
    for q, stages in ((4.0, 2), (4.0, 3), (2.0, 5)):
        curriculum = RatioCurriculum(q=q, stages=stages, k=0.0)
        level, hops = torch.tensor(80.0), 0
        while level > 0.5:
            level, hops = curriculum.closer(level, 1.0), hops + 1
        # Each hop is a step down by ln 1/(1 - q^-s), a little more than the q^-s that the rule counts with.
        assert 0.85 * curriculum.steps_per_setting <= max(hops / 2, 50) <= curriculum.steps_per_setting


def test_stages_are_left_out_until_each_has_its_steps() -> None:
    curriculum = RatioCurriculum(q=4.0, stages=3)
    assert [curriculum.suited_to(steps).stages for steps in (1, 99, 100, 488, 489, 100_000)] == [1, 1, 2, 2, 3, 3]
    assert curriculum.suited_to(489) == curriculum


def test_an_anchor_keeps_targets_at_the_data_and_narrows_with_the_gap() -> None:
    plain, anchored = RatioCurriculum(q=4.0, stages=3), RatioCurriculum(q=4.0, stages=3, anchor=0.6)
    t = torch.tensor([0.03, 0.04, 0.14, 0.16, 0.59, 0.61, 5.0])
    for progress, below in ((0.0, 0.6), (0.5, 0.15), (0.9, 0.0375)):
        r = anchored.closer(t, progress)
        assert r[t < below].eq(0).all()
        assert torch.equal(r[t >= below], plain.closer(t, progress)[t >= below])
    with pytest.raises(ValueError, match="anchor must be a noise level"):
        RatioCurriculum(anchor=-1.0)
