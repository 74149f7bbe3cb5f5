"""How often a client may ask, and how many requests may be inside at a time."""

from __future__ import annotations

import time
from collections import OrderedDict

CLIENTS = 10_000
"""Clients whose rate is remembered."""


class Buckets:
    """A token bucket for each client: so many requests a minute, half of them at once at most.

    Args:
        rate: Requests a minute; 0 for any number.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate / 60.0
        self._most = max(1.0, rate / 2)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take a token.

        Args:
            client: Whose.

        Returns:
            0, or the seconds until there is one.
        """
        if self._rate <= 0:
            return 0.0
        now = time.monotonic()
        left, since = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[client] = (left if wait else left - 1, now)
        while len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return wait


class Window:
    """How many requests may be inside at a time: fewer once answers take long, more while they do not.

    What waits inside costs time that those who are answered need; so it is refused before anything is read of it. A
    request is inside from the end of its body to the beginning of its answer: slow clients take nobody's place.

    Args:
        most: Requests at most.
        seconds: In which each must be answered.
    """

    LEAST = 8

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = float(most), seconds
        self.size = float(most)
        """Requests that may be inside."""
        self.inside = 0
        """Requests that are."""

    @property
    def full(self) -> bool:
        """Whether nobody else may come in."""
        return self.inside >= self.size

    def enter(self) -> bool:
        """Whether another may come in."""
        if self.full:
            return False
        self.inside += 1
        return True

    def leave(self, seconds: float) -> None:
        """Note that one was answered, and after how long."""
        if seconds > self._seconds / 2:
            self.size = max(min(self.size, self.inside) * 0.97, self.LEAST)
        elif self.inside > 0.8 * self.size:
            self.size = min(self.size + 0.5, self._most)
        self.inside -= 1
