"""A frozen teacher's answers, kept for the steps that take the same draw again."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from unistep.core.seeding import Randomness, ShardGenerator

WINDOW = 64
"""Draws before the first of them returns: far more than momentum averages over, so that the gradients of a draw do not
add up, and few enough to keep, 200 MB for 64 colour images of 64 pixels a step."""


def draw_of(step: int, times: int) -> int:
    """The draw of a step, where each window of draws is gone through several times before the next.

    Args:
        step: Number of the step, from 0.
        times: How often each draw is used.
    """
    window = step // (WINDOW * times)
    return window * WINDOW + step % WINDOW


class KeptAnswers:
    """What was computed from the draws of the present window.

    Nothing of it is saved: a run that goes on computes again what it meets.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], Tensor] = {}

    def __call__(self, generator: Randomness, answer: Callable[[], Tensor]) -> Tensor:
        """What ``answer`` gave when the draw was made first, or gives now.

        Args:
            generator: Of which draw and which share of it; others than a :class:`ShardGenerator` keep nothing.
            answer: Computes it, in the same way for the same draw.
        """
        if not isinstance(generator, ShardGenerator):
            return answer()
        key = generator.draw, generator.start
        if not generator.again or key not in self._kept:
            window = generator.draw // WINDOW
            self._kept = {k: kept for k, kept in self._kept.items() if k[0] // WINDOW == window}
            self._kept[key] = answer()
        return self._kept[key]
