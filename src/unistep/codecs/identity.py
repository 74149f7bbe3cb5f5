"""Signals as the network sees them without a change but that of scale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.codecs.base import Codec, CodecConfig, UnfitShapeError
from unistep.codecs.moments import standard_deviation


@dataclass(frozen=True, kw_only=True)
class IdentityConfig(CodecConfig):
    """Options of :class:`Identity`."""

    scale: float = 1.0
    """Factor between a signal and what the network sees."""
    bounded: bool = True
    """Whether signals lie in [-1, 1], so that decoded ones are clamped to it. Unbounded ones get their scale from the
    data."""
    chunk: int = 0
    """Length of a chunk of a stream along the last axis, of which a signal holds two; 0 for whole signals."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        if self.chunk < 0:
            raise ValueError(f"chunk must be 0 or a length, got {self.chunk}")

    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The signal's own shape; of two chunks that of one."""
        if not self.chunk:
            return tuple(signal_shape)
        if signal_shape[-1] != 2 * self.chunk:
            raise ValueError(f"chunk must be 0 or half the length of a signal, {signal_shape[-1]}, got {self.chunk}")
        return (*signal_shape[:-1], self.chunk)

    def build(self, signal_shape: tuple[int, ...]) -> Identity:
        """The codec of signals of one shape."""
        return Identity(self, signal_shape)

    @property
    def past(self) -> int:
        """The whole previous chunk."""
        return self.chunk

    def fitted(self, signal_shape: tuple[int, ...], *, dims: int | None, multiples: tuple[int, ...]) -> Self:
        """The codec for a network; a chunk is half of a signal."""
        if not self.chunk:
            return super().fitted(signal_shape, dims=dims, multiples=multiples)
        length = signal_shape[-1]
        if length % 2:
            raise UnfitShapeError(f"signals of length {length} are not two chunks", (*signal_shape[:-1], length + 1))
        return super(IdentityConfig, replace(self, chunk=length // 2)).fitted(
            signal_shape, dims=dims, multiples=multiples
        )

    def pair_shape(self, signal_shape: tuple[int, ...], frames: int) -> tuple[int, ...] | None:
        """What is shown of the past and a chunk, along the last axis."""
        return (*signal_shape[:-1], frames + self.chunk) if self.chunk else None

    def calibrated(self, signals: Iterable[Float[Tensor, "b ..."]], sigma_data: float) -> Self:
        """Unbounded signals are brought to the standard deviation ``sigma_data``; bounded ones stay as they are.

        Raises:
            ValueError: If all values are the same.
        """
        if self.bounded:
            return self
        spread = standard_deviation(signals)
        if spread == 0:
            raise ValueError("all values of these signals are the same, so that there is nothing to learn")
        return replace(self, scale=float(f"{sigma_data / spread:.3g}"))

    def aligned(self, known: CodecConfig) -> Self:
        """The scale of ``known``."""
        super().aligned(known)
        assert isinstance(known, IdentityConfig)
        return replace(self, scale=known.scale)


class Identity(Codec):
    """A signal times a factor, and back."""

    config: IdentityConfig

    def encode(self, signal: Float[Tensor, "b *signal"]) -> Float[Tensor, "b *shape"]:
        """The signal times the scale; of two chunks the second."""
        if self.config.chunk:
            return self.split(signal)[1]
        return signal if self.config.scale == 1 else signal * self.config.scale

    def decode(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *signal"]:
        """Inverse of :meth:`encode`; bounded signals are clamped to [-1, 1]."""
        if self.config.chunk:
            raise ValueError("chunks of a stream are decoded in order, by decode_next")
        return self._signal(x)

    def within_range(self, signal: Tensor) -> Tensor:
        """Bounded signals clamped to [-1, 1], others as they are."""
        return signal.clamp(-1, 1) if self.config.bounded else signal

    def split(self, signal: Float[Tensor, "b *signal"], number: int = -1) -> tuple[Tensor, Float[Tensor, "b *shape"]]:
        """The first and the second half along the last axis."""
        if not self.config.chunk or number not in (1, -1):
            return super().split(signal, number)
        if tuple(signal.shape[1:]) != self.signal_shape:
            raise ValueError(f"two chunks have shape [b, {_listed(self.signal_shape)}], got {[*signal.shape]}")
        first, second = (signal * self.config.scale).split(self.config.chunk, dim=-1)
        return first, second

    def decode_next(self, x: Float[Tensor, "b *shape"], state: Tensor) -> tuple[Float[Tensor, "b ..."], Tensor]:
        """The chunk itself: chunks do not overlap."""
        return self._signal(x), state

    def cut(self, signal: Float[Tensor, "b ..."]) -> list[Tensor]:
        """Pieces along the last axis."""
        return list(signal.split(self.config.chunk, dim=-1)) if self.config.chunk else super().cut(signal)

    def encode_next(self, signal: Float[Tensor, "b ..."], state: Tensor) -> Float[Tensor, "b *shape"]:
        """The chunk times the scale."""
        del state
        return signal * self.config.scale

    def preceded(self, recent: Tensor, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b ..."]:
        """The past and the chunk along the last axis; bounded signals are clamped to [-1, 1]."""
        if not self.config.chunk:
            return super().preceded(recent, x)
        return self._signal(torch.cat([recent, x], dim=-1))

    def _signal(self, x: Tensor) -> Tensor:
        signal = x if self.config.scale == 1 else x / self.config.scale
        return signal.clamp(-1, 1) if self.config.bounded else signal


def _listed(shape: Iterable[int]) -> str:
    return ", ".join(map(str, shape))
