"""What a recipe may leave open, chosen from the data, the budget and short timing runs: the network and the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

N = TypeVar("N")

ENOUGH = 100_000
"""Items that a run should see: of two networks, the larger is chosen only if it sees as many within the budget."""
DEFAULT_BATCH, SMALLEST_BATCH, LARGEST_BATCH = 64, 16, 256
"""Items per optimizer step by default, and the limits of the choice."""
USUAL_SMALLEST, SHORT = 32, 500
"""The smallest batch where it leaves so many optimizer steps: at the usual rates a denoiser of sprites became worse
with more steps of 16 (the log of experiments, "Batches of 16")."""
ENOUGH_STEPS = 2_000
"""Optimizer steps that a run should have: a smaller batch gives more of them."""


@dataclass(frozen=True)
class Chosen(Generic[N]):
    """A choice, and why."""

    value: N
    """What was chosen."""
    reason: str
    """Why, for the plan."""


def choose_network(candidates: Sequence[N], speed: Callable[[N], float], seconds: float | None) -> Chosen[N]:
    """The largest network that sees enough of the data within the budget.

    Args:
        candidates: Networks from the cheapest to the largest.
        speed: Items per second of a network in training, by a timing run; called until one is too slow.
        seconds: Time for training; ``None`` where it has no limit, for the cheapest network.
    """
    if not candidates:
        raise ValueError(
            "no network suits such signals by itself: those that there are take channels and one to three axes more; "
            "name another with --model.network, or bring the signals into that form"
        )
    if seconds is None:
        return Chosen(candidates[0], "the default for this signal: there is no time budget to choose by")
    best, items = 0, speed(candidates[0]) * seconds
    for i, candidate in enumerate(candidates[1:], 1):
        within = speed(candidate) * seconds
        if within < ENOUGH:
            break
        best, items = i, within
    which = f"{best + 1} of {len(candidates)}, from small to large"
    enough = "" if items >= ENOUGH else f", fewer than the {ENOUGH:,} that suit; a longer budget helps"
    return Chosen(candidates[best], f"{which}; it sees about {items:,.0f} items in this time{enough}")


def choose_batch(speed: float, seconds: float | None) -> Chosen[int]:
    """The batch size, a power of two, that leaves enough optimizer steps in the budget.

    Args:
        speed: Items per second in training.
        seconds: Time for training; ``None`` where it has no limit.
    """
    if seconds is None:
        return Chosen(DEFAULT_BATCH, "the default")
    largest = speed * seconds / ENOUGH_STEPS
    size = 2 ** math.floor(math.log2(max(largest, 1.0)))
    smallest = USUAL_SMALLEST if speed * seconds / USUAL_SMALLEST >= SHORT else SMALLEST_BATCH
    size = min(max(size, smallest), LARGEST_BATCH)
    return Chosen(size, f"about {speed * seconds / size:,.0f} optimizer steps in this time")
