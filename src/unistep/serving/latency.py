"""How long a batch takes, learned while serving: what deadlines and sizes of batches are decided by."""

from __future__ import annotations

from threading import Lock

MEMORY = 0.95
"""Share of the weight that an older observation keeps with each new one."""


class Latency:
    r"""Seconds of a batch of :math:`n` items, :math:`a + b n`, by weighted least squares over what was seen.

    The weight of an observation falls with each later one, so that the line follows a machine that becomes busier.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sums = [0.0] * 5  # of w, w n, w n^2, w s, w n s

    def observe(self, items: int, seconds: float) -> None:
        """Take a batch into account."""
        with self._lock:
            new = (1.0, items, items * items, seconds, items * seconds)
            self._sums = [MEMORY * old + one for old, one in zip(self._sums, new, strict=True)]

    @property
    def known(self) -> bool:
        """Whether a batch was seen."""
        return self._sums[0] > 0

    def _line(self) -> tuple[float, float]:
        """The line's :math:`a` and :math:`b`, neither negative; in proportion where all batches had one size."""
        with self._lock:
            count, first, second, took, product = self._sums
        if count == 0:
            return 0.0, 0.0
        spread = count * second - first * first
        slope = (count * product - first * took) / spread if spread > 1e-9 * count * second else took / first
        slope = min(max(slope, 0.0), took / first)
        return max((took - slope * first) / count, 0.0), slope

    def predict(self, items: int) -> float:
        """Seconds of a batch; 0 before any was seen."""
        base, slope = self._line()
        return base + slope * items

    def largest(self, seconds: float, most: int) -> int:
        """How many items a batch may have to take no longer, from 1 to ``most``."""
        base, slope = self._line()
        if slope <= 0:
            return most
        return max(1, min(most, int((seconds - base) / slope)))
