"""How a stream of signals reaches a player or a file, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor


def leave(path: Path) -> None:
    """Do nothing more to a file."""
    del path


class OpenFile(Protocol):
    """Begins a file of a stream."""

    def __call__(
        self, path: Path, finish: Callable[[Path], object] = leave
    ) -> AbstractContextManager[Callable[[Tensor], object]]:
        """Gives a function that adds one chunk. The file is there, whole, when the block ends.

        Args:
            path: Where to.
            finish: Called with the whole file, such as to mark it, before it takes its place.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StreamOutput:
    """What a kind of signal that lasts in time offers for streams."""

    content: str
    """What is played, such as ``sound``, for lines such as ``3.0 s of sound``."""
    raw: str
    """What :attr:`to_bytes` gives, in the plural, such as ``samples``."""
    rate: float
    """Moments per second: samples of audio, frames of a video."""
    player: str
    """A command that plays what :attr:`to_bytes` gives from its standard input."""
    endings: tuple[str, ...]
    """How names of files end that a stream can be written to."""
    to_bytes: Callable[[Tensor], bytes]
    """One chunk with values in [-1, 1], such as ``[channels, n]``, as raw bytes for a pipe."""
    open_file: OpenFile
    """Begins a file, to which chunks are added."""
    at_rate: Callable[[float], StreamOutput] | None = None
    """The same with other moments per second, faster or slower; ``None`` where that would be another signal."""
    pictures: Callable[[Tensor], np.ndarray] | None = None
    """The frames of one chunk for a screen, uint8 ``[frames, h, w, 3]``; ``None`` for what cannot be seen."""
