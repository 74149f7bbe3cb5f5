"""A recording of any length, read block by block, of which items are windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    notes: tuple[str, ...] = ()
    """Remarks that a summary counts."""
