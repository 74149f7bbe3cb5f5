"""Budgets as people write them, and what a configuration refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import run_config

from unistep.training.budget import Amount, parse_amount
from unistep.training.choices import choose_batch
from unistep.training.ema import PowerEMA
from unistep.training.interval import Interval


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("90s", 90, "seconds"),
        ("30m", 1800, "seconds"),
        ("30min", 1800, "seconds"),
        ("2h", 7200, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("500k", 500_000, "images"),
        ("2M", 2_000_000, "images"),
        ("0.5 M", 500_000, "images"),
        ("500", 500, "steps"),
        (" 7 ", 7, "steps"),
    ],
)
def test_quantities(text: str, value: float, unit: str) -> None:
    assert parse_amount(text, "budget") == Amount(value, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "-5m", "abc", "30x", "2H", "1e3", "5m30s", "m", "nan", "inf", "٣", "9" * 400, "1,5h", "30m\n1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"budget must be a time \(90s, 30m, 2h\), images .* or steps \(500\), got"):
        parse_amount(text, "budget")


@given(st.text(max_size=8))
def test_no_text_is_read_as_nothing_or_crashes(text: str) -> None:
    try:
        amount = parse_amount(text, "budget")
    except ValueError:
        return
    assert amount.value > 0
    assert math.isfinite(amount.value)
    assert amount.steps(64, 100.0) >= 1


def test_steps_of_a_budget() -> None:
    for budget, steps in (("10s", 125), ("2m", 1500), ("1k", 125), ("77", 77), ("0.001s", 1)):
        assert parse_amount(budget, "budget").steps(8, 100.0) == steps


@pytest.mark.parametrize("number", ["10", " 2.5 "])
def test_a_budget_without_a_unit_is_refused_with_both_spellings(number: str) -> None:
    bare = number.strip()
    message = rf"^budget {bare} has no unit: write {bare}m for minutes, or --max-steps {bare} for optimizer steps$"
    with pytest.raises(ValueError, match=message):
        parse_amount(number, "budget", steps=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"accumulation": -1}, "accumulation must be at least 1"),
        ({"keep": 0}, "keep must be at least 1"),
        ({"max_bad_steps": 0}, "max_bad_steps must be at least 1"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"clip": math.nan}, "clip must be positive"),
        ({"emas": ()}, "at least one average"),
        ({"emas": (PowerEMA(), PowerEMA())}, r"two averages are the same \(power-0.1, power-0.1\)"),
        ({"seed": -1}, "seed must be from 0"),
        ({"teacher_share": 1.0}, "teacher_share must be between 0 and 1"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; valid: auto, bf16, fp32"),
        ({"parallel": "fdsp"}, "unknown parallel 'fdsp'; did you mean 'fsdp'"),
        ({"budget": "soon"}, "budget must be a time"),
        ({"budget": "10"}, "budget 10 has no unit"),
        ({"checkpoint_every": "often"}, "checkpoint_every must be a time"),
        ({"sample_every": "0m"}, "sample_every must be a time"),
    ],
)
def test_configurations_are_checked_when_they_are_made(tmp_path: Path, changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_config("denoising", tmp_path, **changes)


def test_intervals_in_steps_images_and_time(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr("unistep.training.pace.now", lambda: now)
    steps, images, time = (Interval(text, "sample_every", 8) for text in ("5", "0.08k", "30s"))
    assert [step for step in range(1, 21) if steps.due(step)] == [5, 10, 15, 20]
    assert [step for step in range(1, 21) if images.due(step)] == [10, 20]
    assert not time.due(1)
    now += 30
    assert time.due(2)
    assert not time.due(3)
    time.took(6)  # so that drawing takes at most a tenth of a run
    now += 59
    assert not time.due(4)
    now += 1
    assert time.due(5)
    steps.took(6)
    assert steps.due(25)  # who counts in steps gets them


@pytest.mark.parametrize(
    ("images", "size"),
    [(100_000, 32), (20_000, 32), (16_000, 32), (15_000, 16), (2_000, 16), (200_000, 64), (10**9, 256)],
)
def test_a_batch_is_small_only_where_steps_are_few(images: int, size: int) -> None:
    assert choose_batch(images / 600, 600).value == size
