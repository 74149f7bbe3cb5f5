"""How a stream of signals reaches a player or a file, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class StreamOutput:
    """What a kind of signal that lasts in time offers for streams."""

    rate: int
    """Values per second along the last axis."""
    channels: int
    """Values at each moment."""
    player: str
    """A command that plays what :attr:`to_bytes` gives from its standard input."""
    endings: tuple[str, ...]
    """How names of files end that a stream can be written to."""
    to_bytes: Callable[[Tensor], bytes]
    """One chunk ``[channels, n]`` in [-1, 1] as raw bytes for a pipe."""
    open_file: Callable[[Path], AbstractContextManager[Callable[[Tensor], object]]]
    """Begins a file; gives a function that adds one chunk. The file is there, whole, when the block ends."""
