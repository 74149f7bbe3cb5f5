"""The search for the few parameters of a solver: a small grid, then along one of them at a time, coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from unistep.editing.solvers import Settings

Score = Callable[[Settings], float]
"""How good results are with some parameters; more is better."""

COARSE: dict[str, Sequence[float]] = {
    "first": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0),
    "last": (0.2, 0.4, 0.8, 1.6, 3.2),
    "estimated": (-1.0, -0.9, -0.6, -0.3, 0.3, 0.8, 1.0),
    "excess": (0.0, 0.1, 0.3, 1.0),
    "trust": (0.1, 0.25, 0.5, 1.0),
}
"""Values that are tried."""
GRID = {"first": (1.0, 4.0, 12.0), "estimated": (-0.9, 0.0, 0.8)}
"""Values that are tried together first, as the best of one depends on the other; the last level is 0.3 of the first."""
FINER: dict[str, Sequence[float]] = {"first": (0.7, 1.4), "last": (0.7, 1.4), "excess": (0.7, 1.4), "trust": (0.7, 1.4)}
"""Factors of the best one that are tried after that."""


def search_settings(
    score: Score,
    start: Settings,
    steps: int,
    *,
    noisy: bool = False,
    least_first: float = 0.0,
    rounds: int = 2,
    progress: Callable[[float], object] | None = None,
) -> tuple[Settings, float]:
    """The best parameters found, and their score.

    Args:
        score: Measures parameters, on held-out data.
        start: Where to begin.
        steps: Calls of the model, as one call has neither a last level nor estimated noise.
        noisy: Whether what is known has noise, so that trust counts.
        least_first: Lowest first noise level, where lower ones would leave the first guess as it is.
        rounds: Passes over all parameters.
        progress: Called with the share of the work that is done.

    Raises:
        ValueError: If there are no passes.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    names = [name for name in COARSE if (steps > 1 or name not in ("last", "estimated")) and (noisy or name != "trust")]
    grid = [(first, share) for first in GRID["first"] for share in GRID["estimated"]] if steps > 1 else []
    total = (
        len(grid) + rounds * sum(len(COARSE[name]) for name in names) + sum(len(FINER.get(name, ())) for name in names)
    )
    done, tried = 0, dict[Settings, float]()

    def measured(settings: Settings) -> float:
        nonlocal done
        done += 1
        if settings not in tried:
            tried[settings] = score(settings)
        if progress is not None:
            progress(min(1.0, done / total))
        return tried[settings]

    best = replace(start, first=max(start.first, least_first))
    measured(best)

    def along(name: str, values: Sequence[float]) -> None:
        nonlocal best
        low, high = Settings.LIMITS[name]
        for value in values:
            if low <= value <= high and not (name == "first" and value < least_first):
                candidate = replace(best, **{name: value})
                if measured(candidate) > tried[best]:
                    best = candidate

    for first, share in grid:
        first = max(first, least_first)
        candidate = replace(best, first=first, last=0.3 * first, estimated=share)
        if measured(candidate) > tried[best]:
            best = candidate
    for _ in range(rounds):
        for name in names:
            along(name, COARSE[name])
    for name in names:
        around = getattr(best, name)
        along(name, [float(f"{factor * around:.3g}") for factor in FINER.get(name, ())])
    return best, tried[best]
