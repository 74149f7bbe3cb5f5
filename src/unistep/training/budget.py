"""Budgets as people write them: ``90s``, ``30m``, ``2h`` of time, ``500k`` or ``2M`` items; intervals also in steps."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
IMAGES = {"k": 1e3, "M": 1e6}
LONGEST = {"seconds": 100 * 365.25 * 86_400, "images": 1e15, "steps": 1e12}
"""Most that a quantity may be: a century of time."""


@dataclass(frozen=True)
class Amount:
    """A quantity of training."""

    value: float
    """How many."""
    unit: Literal["seconds", "images", "steps"]
    """Of what."""

    def steps(self, batch_size: int, images_per_second: float) -> int:
        """The optimizer steps that it amounts to, at least one."""
        images = self.value * images_per_second if self.unit == "seconds" else self.value
        return max(1, round(self.value if self.unit == "steps" else images / batch_size))


def parse_amount(text: str, name: str, *, steps: bool = True) -> Amount:
    """Read a quantity such as ``30m``, ``2M`` or ``500``.

    Args:
        text: A positive number and a unit; a bare number counts optimizer steps.
        name: The option, for the error message.
        steps: Whether a bare number may be given. For a budget it may not: people mean minutes by it.

    Raises:
        ValueError: If it is nothing of the kind.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*(s|m|min|h|k|M)?\s*", text, flags=re.ASCII)
    if match is None or float(match[1]) <= 0:
        expected = "a time (90s, 30m, 2h), images (500k, 2M) or steps (500)"
        expected = expected if steps else "a time (90s, 30m, 2h) or images (500k, 2M)"
        raise ValueError(f"{name} must be {expected}, got {text!r}")
    value, unit = float(match[1]), match[2]
    if unit is None and not steps:
        number = match[1]
        raise ValueError(
            f"{name} {number} has no unit: write {number}m for minutes, or --max-steps {number} for optimizer steps"
        )
    if unit in SECONDS:
        amount = Amount(value * SECONDS[unit], "seconds")
    elif unit in IMAGES:
        amount = Amount(value * IMAGES[unit], "images")
    else:
        amount = Amount(value, "steps")
    if amount.value > LONGEST[amount.unit]:
        raise ValueError(f"{name} must be at most a century, 1e15 images or 1e12 steps, got {text!r}")
    return amount


def rounded_up(value: float, unit: Literal["seconds", "images", "steps"]) -> str:
    """A budget of at least this much, in a round number as people write it, such as ``20m`` or ``150k``.

    Args:
        value: How many.
        unit: Of what.
    """
    if unit == "steps":
        return str(math.ceil(value))
    if unit == "images":
        return f"{_round(value / 1e3)}k"
    if value < 60:
        return f"{_round(value)}s"
    return f"{_round(value / 60)}m" if value <= 5_400 else f"{_round(value / 3600)}h"


def _round(value: float) -> str:
    """Up to the next whole number, multiple of 5 or of 10, which adds a quarter at most beyond 4."""
    for least, unit in ((80, 10), (20, 5)):
        if value > least:
            return str(math.ceil(value / unit - 1e-9) * unit)
    return str(max(1, math.ceil(value - 1e-9)))
