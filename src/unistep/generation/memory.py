"""Finding out before long work whether its result fits into memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PER_VALUE = 16
"""Bytes for each value of a sample, measured: float32 in batches, joined, and brought to what a file holds."""

ALWAYS = 2**26
"""Bytes that are there wherever PyTorch itself runs, so that a click's sample does not ask the system first."""

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


def check_fits(num: int, values: int) -> None:
    """Refuse a number of samples that cannot be in memory at once.

    Args:
        num: Number of samples.
        values: Numbers in each.

    Raises:
        ValueError: Saying how much memory they would need.
    """
    needed = 4 * num * values  # float32, and nothing else: what cannot fit by any means
    there = memory() if needed > ALWAYS else None
    if there is not None and needed > there:
        raise ValueError(
            f"num {num} needs {needed / 2**30:,.0f} GiB of memory, and there are {there / 2**30:,.0f}; draw them in "
            "several calls, each with a seed of its own"
        )
