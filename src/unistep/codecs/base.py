"""What lies between a signal and what the network sees: the contract of a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Self

from jaxtyping import Float
from torch import Tensor, nn


class CodecConfig(ABC):
    """Options of a codec: a frozen dataclass, registered as a ``codec``."""

    REGISTRY_KIND: ClassVar[str] = "codec"

    @abstractmethod
    def build(self, signal_shape: tuple[int, ...]) -> Codec:
        """The codec of signals of one shape, ``(channels, ...)``."""

    def fitted(self, signal_shape: tuple[int, ...], *, dims: int | None, multiple: int) -> Self:
        """The codec for a network that takes ``dims`` spatial dimensions whose sizes are multiples of ``multiple``.

        Raises:
            ValueError: If there is none; says which sizes fit.
        """
        del signal_shape, dims, multiple
        return self

    def calibrated(self, signals: Iterable[Float[Tensor, "b ..."]], sigma_data: float) -> Self:
        """The codec whose output has the standard deviation ``sigma_data`` on these signals, where it has such a scale.

        Args:
            signals: Batches of signals in [-1, 1].
            sigma_data: What the model expects.

        Raises:
            ValueError: If there is nothing to learn from them, such as silence.
        """
        del signals, sigma_data
        return self


class Codec(nn.Module, ABC):
    """Signals to what the network sees and back. It may carry weights, which are frozen.

    Args:
        signal_shape: Shape of one signal.
    """

    def __init__(self, signal_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.signal_shape = tuple(signal_shape)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of what the network sees of one signal, ``(channels, *spatial)``."""

    @abstractmethod
    def encode(self, signal: Float[Tensor, "b *signal"]) -> Float[Tensor, "b *shape"]:
        """Signals in [-1, 1] as the network sees them, differentiable."""

    @abstractmethod
    def decode(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *signal"]:
        """Inverse of :meth:`encode`, clamped to [-1, 1]."""

    @property
    def chunked(self) -> bool:
        """Whether a signal holds two chunks of an endless one: what came before, and what comes next."""
        return False

    def split(self, signal: Float[Tensor, "b *signal"]) -> tuple[Tensor, Float[Tensor, "b *shape"]]:
        """Two chunks of an endless signal as the network sees them: what came before, and the chunk of :attr:`shape`.

        Raises:
            ValueError: If the codec is not :attr:`chunked`.
        """
        raise ValueError(f"{type(self).__name__} is of signals by themselves, not of chunks of a stream")

    def decode_next(
        self, x: Float[Tensor, "b *shape"], state: Tensor | None
    ) -> tuple[Float[Tensor, "b ..."], Tensor | None]:
        """The next chunk of a stream as a signal, given what the chunk before left over.

        Args:
            x: What the network made.
            state: What this method returned for the chunk before, ``[b, ...]``; ``None`` at the beginning.

        Returns:
            The signal of the chunk in [-1, 1], and the state for the next call.
        """
        return self.decode(x), state
