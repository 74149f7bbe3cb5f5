"""How often a client may ask, and how many requests may be inside at a time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from unistep.serving.shares import Shares

CLIENTS = 10_000
"""Clients whose rate is remembered."""
CUT = 0.85
"""Share of a window that is left once answers take long."""
GROWTH = 4.0
"""How many more may be inside after as many quick answers as there are places."""
MEMORY = 0.95
"""Share of its weight that what was seen keeps with each answer."""


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
    request is inside from the end of its body to the beginning of its answer: slow clients take nobody's place. The
    places are shared by those who are inside.

    Args:
        most: Requests at most.
        seconds: In which each must be answered.
    """

    LEAST = 8
    MARGIN = 2.0
    """How many times as long as it takes on average is left for what comes after the network."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = float(most), seconds
        self.size = float(most)
        """Requests that may be inside."""
        self.shares = Shares()
        """Requests of each client that are."""
        self._cut = float("-inf")
        self._after = 0.0

    @property
    def seconds(self) -> float:
        """In which each request must be answered."""
        return self._seconds

    @property
    def after(self) -> float:
        """Seconds to leave for what comes after the network: files, and the event loop."""
        return min(self.MARGIN * self._after, self._seconds / 2)

    def note_after(self, seconds: float) -> None:
        """Take into account how long an answer took after the network."""
        self._after = MEMORY * self._after + (1 - MEMORY) * seconds

    @property
    def inside(self) -> int:
        """Requests that are inside."""
        return self.shares.total

    def has_room(self, client: str) -> bool:
        """Whether a client may come in once more."""
        return self.shares.has_room(client, 1, self.size)

    def leave(self, client: str, seconds: float) -> None:
        """Note that a request was answered, and after how long."""
        now = time.monotonic()
        if seconds > self._seconds / 2:
            if now - seconds >= self._cut:  # whoever was inside before says nothing of the size since
                self.size = max(min(self.size, self.inside) * CUT, self.LEAST)
                self._cut = now
        elif self.inside > 0.8 * self.size or self.shares.held(client) > 0.8 * self.size / self.shares.clients:
            self.size = min(self.size + GROWTH / self.size, self._most)
        self.shares.give(client)


class Place:
    """The place of one request in a window, from when it is made until it leaves.

    Args:
        window: The window.
        client: Whose request it is.
    """

    def __init__(self, window: Window, client: str) -> None:
        self._window, self._client = window, client
        self._begun, self._inside, self._left = time.monotonic(), True, False
        self._done: float | None = None
        self.deadline = self._begun + window.seconds
        """When the answer must be there."""
        window.shares.take(client)

    def done(self) -> None:
        """Note that the network is done with it."""
        self._done = time.monotonic()

    @property
    def is_late(self) -> bool:
        """Whether the network was in time, and the answer is not."""
        return self._done is not None and time.monotonic() > self.deadline

    def leave(self) -> None:
        """Leave for good; once is enough."""
        self._left = True
        if self._inside:
            self._inside = False
            now = time.monotonic()
            if self._done is not None:
                self._window.note_after(now - self._done)
            self._window.leave(self._client, now - self._begun)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let others have the place for as long as the request waits for something other than the network."""
        if not self._inside:
            yield
            return
        self._inside = False
        self._window.shares.give(self._client)
        try:
            yield
        finally:
            if not self._left:  # a request may end before what waits for it does, as where its client leaves
                self._begun, self._inside = time.monotonic(), True
                self._window.shares.take(self._client)
