"""Finding out before long work whether its result fits into memory."""

from __future__ import annotations

from unistep.generation.memory import PER_VALUE, memory


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
