"""When to do something that is done every so often, in seconds or in steps."""

from __future__ import annotations

from unistep.training import pace as pace_module
from unistep.training.budget import Amount, parse_amount


class Interval:
    """Says when an interval, in seconds or in steps, has passed."""

    def __init__(self, text: str, name: str, batch_size: int) -> None:
        self.amount: Amount = parse_amount(text, name)
        self._steps = self.amount.steps(batch_size, 1.0)
        self._last = pace_module.now()

    def due(self, step: int) -> bool:
        """Whether it is time, after ``step`` steps; starts the next interval if so."""
        if self.amount.unit != "seconds":
            return step % self._steps == 0
        if pace_module.now() - self._last < self.amount.value:
            return False
        self._last = pace_module.now()
        return True
