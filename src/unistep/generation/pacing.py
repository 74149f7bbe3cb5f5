"""Real time: when each chunk of a stream must be there, when it may be handed on, and what became of it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable

KEPT = 4096
"""Chunks whose times are remembered: a stream may last for days."""


class Deadlines:
    """Hands chunks on as a player needs them, at most one ahead.

    The player starts with the first chunk; from then on chunk ``n`` must be there ``n`` chunk lengths later. One that
    is not is a dropped deadline: the player waits for it, and all later ones are due that much later.

    Args:
        seconds: Length of a chunk.
        paced: Whether to wait; without, chunks are handed on as fast as they come, and none has a deadline.
        begun: When whoever plays it began to wait, by the clock; now without.
        content: What is played, for messages.
        clock: Seconds, from any beginning.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        seconds: float,
        *,
        paced: bool = True,
        begun: float | None = None,
        content: str = "signal",
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seconds, self.paced, self.content = seconds, paced, content
        self._clock, self._sleep = clock, sleep
        self._asked = clock()
        self._begun = self._asked if begun is None else begun
        self._start = 0.0
        self._took: deque[float] = deque(maxlen=KEPT)
        self.first = 0.0
        """Seconds from the beginning to the first chunk."""
        self.chunks = 0
        """Chunks that were handed on."""
        self.dropped = 0
        """Chunks that came too late."""
        self.computing = 0.0
        """Seconds that making them took, without the waiting."""

    def made(self) -> None:
        """Note that the next chunk is made, and wait until it may be handed on."""
        now = self._clock()
        self._took.append(now - self._asked)
        self.computing += now - self._asked
        if self.chunks == 0:
            self.first, self._start = now - self._begun, now
        elif self.paced:
            due = self._start + self.chunks * self.seconds
            if now > due:
                self.dropped += 1
                self._start += now - due
            elif now < due - self.seconds:
                self._sleep(due - self.seconds - now)

    def handed(self) -> None:
        """Note that it was handed on, and that the one after it is being made."""
        self.chunks += 1
        self._asked = self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds since whoever plays it began to wait."""
        return self._clock() - self._begun

    @property
    def played(self) -> float:
        """Seconds of the stream that were handed on."""
        return self.chunks * self.seconds

    @property
    def factor(self) -> float:
        """Real-time factor: seconds of making for each second of the stream; below 1 it keeps up."""
        return self.computing / max(self.played, 1e-9)

    def took(self, share: float) -> float:
        """Seconds within which that share of the last chunks was made; 0.5 is the median."""
        return quantile(self._took, share)

    def __str__(self) -> str:
        if not self.chunks:
            return f"no {self.content}"
        line = (
            f"{self.played:.1f} s of {self.content}, a chunk of {1e3 * self.seconds:.0f} ms in "
            f"{1e3 * self.took(0.5):.0f} ms (p95 {1e3 * self.took(0.95):.0f} ms), real-time factor {self.factor:.3f}"
        )
        return f"{line}, {self.dropped} of {self.chunks} deadlines dropped" if self.paced else line


class Ticks:
    """When the next frame of what a player steers may begin: one a tick, never early, and none is made up for.

    Args:
        seconds: From one tick to the next.
        clock: Seconds, from any beginning.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self._clock = seconds, clock
        self._next = -math.inf

    def wait(self, wait: Callable[[float], None]) -> None:
        """Wait for the next tick; where it is over already, the ticks go on from now.

        Args:
            wait: Lets so many seconds go by, or fewer; called at least once, if only to note what happened meanwhile.
        """
        self._next = max(self._next, self._clock())
        left = self._next - self._clock()
        while True:
            wait(max(left, 0.0))
            left = self._next - self._clock()
            if left <= 0:
                break
        self._next += self.seconds

    @property
    def late(self) -> bool:
        """Whether the tick after the last one is over."""
        return self._clock() > self._next


def quantile(values: Iterable[float], share: float) -> float:
    """The value that a share of all does not exceed, 0.5 being the median; 0 where there is none."""
    found = sorted(values)
    return found[round(share * (len(found) - 1))] if found else 0.0
