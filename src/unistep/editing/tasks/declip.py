"""Signals whose peaks were cut off."""

from __future__ import annotations

from torch import Tensor

from unistep.editing.constraints import Clipped
from unistep.editing.solvers import Problem, Settings
from unistep.editing.task import Task

HIGHEST = 0.99
"""Largest level that leaves peaks room in the range of signals."""


class Declip(Task):
    """Values at the limit become what they may have been beyond it."""

    summary = "restore the peaks that were cut off"
    takes = ("level",)
    settings = Settings(first=1.0, last=0.2)

    def check(self) -> None:
        """The level is within the range."""
        if self.options.level is not None and not 0 < self.options.level <= 1:
            raise ValueError(f"level must be above 0 and at most 1, got {self.options.level:g}")

    def problem(self, *x: Tensor) -> Problem:
        """To agree with what was not cut off.

        Raises:
            ValueError: If the inputs are zero everywhere, or were clipped at the end of the range of signals.
        """
        peak = self.options.level
        levels = x[0].flatten(1).abs().amax(dim=1) if peak is None else x[0].new_full((len(x[0]),), peak)
        if not (levels > 0).all():
            raise ValueError("an input is silent: all of its values are zero")
        if (levels > HIGHEST).any():
            raise ValueError(
                f"an input is clipped at {float(levels.max()):.3g}, and values end at 1, so that its peaks have no "
                "room: turn it down first, such as to half, and declip that"
            )
        return Problem(constraint=Clipped(x[0], levels))

    def degraded(self, x: Tensor) -> Tensor:
        """Clean signals, clamped.

        Raises:
            ValueError: If the level is not given.
        """
        if self.options.level is None:
            raise ValueError("give level, where to clip clean signals")
        return x.clamp(-self.options.level, self.options.level)
