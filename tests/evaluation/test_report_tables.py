"""How figures are written in tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unistep.evaluation.report import Figures
from unistep.evaluation.report_tables import distance

FIGURES = Figures(frechet=1.0, kid=0.0, kid_std=0.0, precision=1.0, recall=1.0, density=1.0, coverage=1.0)


@pytest.mark.parametrize(
    ("value", "margin", "written"),
    [
        (623.3, 0.34, "623.300 ±0.34"),
        (0.31, 0.07, "0.310 ±0.07"),
        (0.0418, 0.0184, "0.0418 ±0.0184"),
        (0.007183, 0.00071, "0.00718 ±0.00071"),
        (0.0099, None, "0.00990"),
        (0.0, 0.0, "0.000 ±0.00"),
    ],
)
def test_a_small_distance_keeps_three_digits(value: float, margin: float | None, written: str) -> None:
    assert distance(replace(FIGURES, frechet=value, margin=margin)) == written
