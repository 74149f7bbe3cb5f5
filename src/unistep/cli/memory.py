"""Finding out before long work whether its result fits into memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PER_VALUE = 16
"""Bytes for each value of a sample, measured: float32 in batches, joined, and brought to what a file holds."""

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int | None:
    """Bytes of memory that this process may use, by the machine and by its container; ``None`` where nobody says."""
    found = []
    with suppress(AttributeError, OSError, ValueError):  # not every system has these names
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # no container, or one without a limit, which then is a word
            found.append(int(Path(limit).read_text()))
    return min((size for size in found if size > 0), default=None)


def check_samples(num: int, values: int, seed: int) -> None:
    """Refuse more samples than fit into memory: they are there all at once before the first is written.

    Args:
        num: Number of samples.
        values: Numbers in each.
        seed: Seed of the first.

    Raises:
        ValueError: Saying how much they would need, and which runs would fit.
    """
    there = memory()
    if there is None or num * values * PER_VALUE <= there:
        return
    some = str(max(1, there // (2 * values * PER_VALUE)))
    fitting = int(some[0]) * 10 ** (len(some) - 1)
    raise ValueError(
        f"-n {num} needs about {num * values * PER_VALUE / 2**30:,.0f} GiB of memory at once, and there are "
        f"{there / 2**30:,.0f}; draw them in several runs, such as -n {fitting} --seed {seed}, then --seed "
        f"{seed + fitting}, each with an -o of its own"
    )
