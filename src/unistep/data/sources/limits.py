"""Which items a limit leaves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


def evenly_spaced(count: int, limit: int | None) -> range | list[int]:
    """Indices of at most ``limit`` of ``count`` items, spread evenly and in order."""
    if limit is None or limit >= count:
        return range(count)
    return [i * count // limit for i in range(limit)]


def shares(counts: Sequence[int], limit: int | None) -> list[int]:
    """How many of each file's windows are taken: at least one, as long as the limit lasts, and then by length.

    Args:
        counts: Windows of each file, at least one.
        limit: Windows of all together.
    """
    if limit is None or limit >= sum(counts):
        return list(counts)
    if limit <= len(counts):
        some = frozenset(evenly_spaced(len(counts), limit))
        return [int(i in some) for i in range(len(counts))]
    further, left = limit - len(counts), sum(counts) - len(counts)
    ends = [further * (windows - files) // left for files, windows in enumerate(accumulate(counts), start=1)]
    return [1 + end - before for end, before in zip(ends, [0, *ends], strict=False)]
