"""The search for good sampling times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from unistep.core.timesteps import karras_grid


def search_times(
    score: Callable[[tuple[float, ...]], float],
    steps: int,
    t_max: float,
    t_min: float,
    *,
    levels: int = 64,
    known: Sequence[float] = (),
    on_try: Callable[[tuple[float, ...], float], None] | None = None,
) -> tuple[float, ...]:
    """Find intermediate times one after the other, each by ternary search over a grid of noise levels.

    The search assumes that the score (a Fréchet distance, say) has one minimum between the neighbours of the new time.
    It remembers every candidate and returns the best one that it *measured*, also where the assumption fails.

    Args:
        score: Quality of a tuple of decreasing times, lower is better; called with fixed seeds it is deterministic.
        steps: Number of times to find, the first being ``t_max``.
        t_max: First time.
        t_min: No time is below this one.
        levels: Candidates between ``t_max`` and ``t_min``, spaced as Karras et al. 2022 do.
        known: Intermediate times that are already decided, decreasing.
        on_try: Called with each candidate and its score.

    Returns:
        ``steps`` decreasing times.

    References:
        Song et al. 2023, arXiv 2303.01469, section 3 ("Few-step sampling") and appendix C (greedy ternary search).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not t_min > 0:
        raise ValueError(f"t_min must be positive, got {t_min:g}: candidates are compared by their ratios")
    candidates = karras_grid(levels, t_min, t_max).tolist()
    times = (t_max, *known)
    while len(times) < steps:
        last = times[-1]
        low = 1 + min(range(levels), key=lambda index: abs(math.log(candidates[index] / last)))
        high = levels - (steps - len(times))  # leaves a candidate for each time that is still to come
        if low > high:
            raise ValueError(f"no candidate lies below the time {last:g}; use more levels or fewer steps")
        tried: dict[int, float] = {}

        def measure(index: int, prefix: tuple[float, ...] = times, tried: dict[int, float] = tried) -> float:
            if index not in tried:
                attempt = (*prefix, candidates[index])
                found = score(attempt)
                if on_try is not None:
                    on_try(attempt, found)
                tried[index] = math.inf if math.isnan(found) else found  # no number is the smallest of all otherwise
            return tried[index]

        while high - low > 2:
            third = (high - low) // 3
            left, right = low + third, high - third
            if measure(left) < measure(right):
                high = right
            else:
                low = left
        for index in range(low, high + 1):
            measure(index)
        times = (*times, candidates[min(tried, key=lambda index: tried[index])])
    return times[:steps]
