"""A recording of any length, read block by block, of which items are windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """A signal with a time axis, in its stored type, and where its windows begin."""

    blocks: Iterator[np.ndarray]
    """The whole of it in order, in arrays of shape ``[time, channels, ...]``."""
    starts: tuple[int, ...]
    """First time step of each window of the fixed grid."""
    slack: int = 0
    """How many steps earlier or later than on the grid a window may begin in training."""
    moments: int = 0
    """Moments that the file itself has, before it was brought to a rate, such as the frames of a video; 0 where nobody
    asks."""
    shown: Callable[[], np.ndarray] | None = None
    """Which of those moments each time step shows, int ``[length]``; ``None`` where nobody asks."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """For each window its values of the source's fields, where only reading tells them."""
    notes: Sequence[str] = ()
    """Remarks that a summary counts; they may grow until the last block is read."""
    seek: Callable[[tuple[int, ...]], Recording] | None = None
    """Reads only the windows that begin at these steps, where that costs less than reading all of it."""

    def only(self, starts: tuple[int, ...]) -> Recording:
        """The recording with these windows alone, of those that it has."""
        if self.seek is None or starts == self.starts:
            known = dict(zip(self.starts, self.conditions, strict=False))
            return replace(self, starts=starts, conditions=tuple(known[start] for start in starts) if known else ())
        return self.seek(starts)
