"""Windows of recordings that are stored once, one after the other along one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unistep.core.seeding import derived_seed

WINDOW = "window"
"""Key of the length of a window in the description of a data set."""
_INDEX = ("start", "first", "last")


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Where the windows of a data set lie: all have one length, and each may begin within bounds."""

    length: int
    """Time steps of a window."""
    start: np.ndarray
    """Where each begins on the fixed grid, int64 ``[n]``."""
    first: np.ndarray
    """Where it may begin at the earliest in training."""
    last: np.ndarray
    """Where it may begin at the latest."""

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], length: int) -> Windows:
        """The windows of a cached data set."""
        return cls(length=length, **{name: np.array(arrays[name]) for name in _INDEX})

    def arrays(self) -> dict[str, np.ndarray]:
        """The index as arrays, for the cache."""
        return {name: getattr(self, name) for name in _INDEX}

    def __len__(self) -> int:
        return len(self.start)

    def cut(self, recordings: np.ndarray, rows: np.ndarray, seeds: Sequence[int] | None) -> np.ndarray:
        """Some windows.

        Args:
            recordings: All of them, ``[time, channels, ...]``.
            rows: Numbers of windows.
            seeds: A seed for each; without, they begin on the grid.

        Returns:
            Array ``[b, channels, length, ...]``.
        """
        begin = self.start[rows]
        if seeds is not None:
            first, room = self.first[rows], self.last[rows] - self.first[rows] + 1
            begin = first + np.array([derived_seed("window", seeds[i]) % int(r) for i, r in enumerate(room)], np.int64)
        found = np.empty((len(rows), self.length, *recordings.shape[1:]), recordings.dtype)
        for window, at in zip(found, begin, strict=True):
            window[:] = recordings[at : at + self.length]
        return np.ascontiguousarray(found.swapaxes(1, 2))


class WindowIndex:
    """Collects where windows lie while recordings are written.

    Args:
        length: Time steps of a window.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._begin = 0
        self._rows: list[tuple[int, int, int]] = []

    def add(self, starts: Sequence[int], slack: int, total: int) -> None:
        """Add a recording of ``total`` time steps, with windows that begin at ``starts`` give or take ``slack``."""
        for start in starts:
            first, last = max(0, start - slack), min(total - self._length, start + slack)
            self._rows.append((self._begin + start, self._begin + first, self._begin + max(first, last)))
        self._begin += total

    def windows(self) -> Windows:
        """All of them."""
        start, first, last = np.array(self._rows, np.int64).reshape(-1, 3).T
        return Windows(length=self._length, start=start, first=first, last=last)
