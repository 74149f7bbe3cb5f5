"""When to do something that is done every so often, in seconds or in steps."""

from __future__ import annotations

from unistep.training import pace as pace_module
from unistep.training.budget import Amount, parse_amount

SHARE = 0.1
"""Most of the time that what is done every so many seconds may take."""


class Interval:
    """Says when an interval, in seconds or in steps, has passed.

    One in seconds grows where what is done takes long (:meth:`took`): a recording of a world is drawn for as long as
    a hundred steps of its training take, and every minute that would be a quarter of the run.
    """

    def __init__(self, text: str, name: str, batch_size: int) -> None:
        self.amount: Amount = parse_amount(text, name)
        self._steps = self.amount.steps(batch_size, 1.0)
        self._last = pace_module.now()
        self._least = 0.0

    def due(self, step: int) -> bool:
        """Whether it is time, after ``step`` steps; starts the next interval if so."""
        if self.amount.unit != "seconds":
            return step % self._steps == 0
        if pace_module.now() - self._last < max(self.amount.value, self._least):
            return False
        self._last = pace_module.now()
        return True

    def took(self, seconds: float) -> None:
        """What was due has taken so long: the next time is due after at least ten times that, ``1 / SHARE``."""
        self._least = seconds / SHARE
