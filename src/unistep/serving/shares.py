"""Places that clients share: whoever is alone may have all of them, and among several each has its part."""

from __future__ import annotations

from collections import Counter


class Shares:
    """How many places each client holds.

    Among :math:`n` clients, none gets another place while it holds one :math:`n`-th of them or more. One that holds
    none gets its first always, also where the others hold all: until they have given some back, twice as many may be
    taken, and no more.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self.total = 0
        """Places that are taken."""

    def take(self, client: str, places: int = 1) -> None:
        """Note that a client holds more."""
        self._held[client] += places
        self.total += places

    def give(self, client: str, places: int = 1) -> None:
        """Note that a client holds fewer."""
        self._held[client] -= places
        self.total -= places
        if not self._held[client]:
            del self._held[client]

    def held(self, client: str) -> int:
        """How many a client holds."""
        return self._held.get(client, 0)

    @property
    def clients(self) -> int:
        """How many clients hold some."""
        return len(self._held)

    def others(self, client: str) -> int:
        """How many other clients hold some."""
        return len(self._held) - (client in self._held)

    def has_room(self, client: str, places: int, most: float) -> bool:
        """Whether a client may have more.

        Args:
            client: Which.
            places: How many more.
            most: How many there are.
        """
        if self.total == 0:
            return True  # also what is larger than all of them
        if self.total + places > 2 * most:
            return False
        held = self.held(client)
        part = most if held == 0 else most / (1 + self.others(client))
        return held + places <= part
