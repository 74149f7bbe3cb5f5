"""One chunk of signals as something to edit by itself, given the other chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import Rows
from unistep.editing.constraints import CLOSE, Constraint


@final
class ChunkCoder:
    """A chunk of a stream to what the network sees and back.

    Args:
        codec: That of the stream.
        state: What the codec needs of the previous chunk, as for :meth:`Codec.decode_next`.
    """

    def __init__(self, codec: Codec, state: Tensor) -> None:
        self._codec, self._state = codec, state

    def encode(self, signal: Tensor) -> Tensor:
        """A chunk as the network sees it."""
        return self._codec.encode_next(signal, self._state)

    def decode(self, x: Tensor) -> Tensor:
        """Its inverse, clamped to the range of signals."""
        return self._codec.decode_next(x, self._state)[0]


@final
class OfChunk(Constraint):
    """What is known of one chunk, as far as it follows from what is known of whole signals and from the other chunks.

    Args:
        whole: What is known of whole signals.
        codec: That of the stream.
        chunks: All chunks: those before as they were edited, those after as they are guessed.
        number: Which chunk, from 0.
    """

    def __init__(self, whole: Constraint, codec: Codec, chunks: Sequence[Tensor], number: int) -> None:
        self._whole, self._codec, self._chunks, self._number = whole, codec, list(chunks), number
        self.sigma = whole.sigma

    def _placed(self, x: Tensor) -> Tensor:
        """Whole signals with ``x`` in the place of the chunk."""
        return self._codec.join([*self._chunks[: self._number], x, *self._chunks[self._number + 1 :]])

    def _taken(self, signal: Tensor) -> Tensor:
        return self._codec.cut(signal)[self._number]

    @property
    def gain(self) -> Tensor:
        """That of whole signals."""
        return self._whole.gain

    @property
    def start(self) -> Tensor:
        """The chunk as it is guessed."""
        return self._chunks[self._number]

    def correct(self, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        """The chunk of whole signals that are corrected."""
        return self._taken(self._whole.correct(self._placed(x), weight))

    def guide(self, x: Tensor, weight: Tensor | float = 1.0, level: Tensor | None = None) -> Tensor:
        """The same by the way that suits such signals best."""
        return self._taken(self._whole.guide(self._placed(x), weight, level))

    def residual(self, x: Tensor) -> Tensor:
        """How far whole signals with this chunk are from what is known."""
        return self._whole.residual(self._placed(x))

    def select(self, rows: Rows) -> OfChunk:
        """What is known of some of the items."""
        return OfChunk(self._whole.select(rows), self._codec, [one[rows] for one in self._chunks], self._number)

    def to(self, device: torch.device) -> OfChunk:
        """The same on a device."""
        chunks = [one.to(device) for one in self._chunks]
        return OfChunk(self._whole.to(device), self._codec, chunks, self._number)

    @property
    def everything(self) -> bool:
        """Whether nothing of the chunk is left open: it comes out the same, whatever it was."""
        if self.sigma.any():
            return False
        low, high = (self.correct(one) for one in self._probes())
        return bool(((low - high).abs() < CLOSE).all())

    @property
    def nothing(self) -> bool:
        """Whether all of the chunk is left open: it stays the same, whatever it was."""
        return all(bool(((self.guide(one) - one).abs() < CLOSE).all()) for one in self._probes())

    def _probes(self) -> tuple[Tensor, Tensor]:
        return torch.full_like(self.start, -1.0), torch.full_like(self.start, 1.0)
