"""What lies between a signal and what the network sees: the contract of a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unistep.core.signal_fields import SignalField


class UnfitShapeError(ValueError):
    """A signal whose shape a codec or network cannot take.

    Args:
        message: What is wrong, without the remedy.
        nearest: The nearest shape that fits; the modality says with which option a person gets it.
    """

    def __init__(self, message: str, nearest: tuple[int, ...]) -> None:
        super().__init__(message)
        self.nearest = nearest


def nearest_multiples(sizes: Sequence[int], multiples: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes nearest to some that are multiples of these numbers, of which one stands for all."""
    each = multiples * len(sizes) if len(multiples) == 1 else multiples
    return tuple(max(n, round(size / n) * n) for size, n in zip(sizes, each, strict=True))


def check_multiples(
    what: str, shape: tuple[int, ...], signal_shape: tuple[int, ...], multiples: tuple[int, ...], *, factor: int = 1
) -> None:
    """Check that what a network sees has sizes that it takes.

    Args:
        what: What it sees, for the message.
        shape: Its shape, ``(channels, *spatial)``.
        signal_shape: That of the signal.
        multiples: What each size must be a multiple of; one number stands for all.
        factor: How many values of a signal along an axis are one of what is seen.

    Raises:
        UnfitShapeError: If it has not.
    """
    sizes = shape[1:]
    if nearest_multiples(sizes, multiples) == sizes:
        return
    whole = tuple(n * factor for n in multiples)
    few = set(multiples)
    needed = str(multiples[0]) if len(few) == 1 else "x".join(map(str, multiples))
    near = nearest_multiples(signal_shape[1:], whole if len(signal_shape) == len(shape) else whole[-1:])
    raise UnfitShapeError(
        f"{what} {'x'.join(map(str, sizes))} do not fit this network, which needs multiples of {needed}",
        (signal_shape[0], *near),
    )


class CodecConfig(ABC):
    """Options of a codec: a frozen dataclass, registered as a ``codec``."""

    REGISTRY_KIND: ClassVar[str] = "codec"
    papers: ClassVar[tuple[str, ...]] = ()
    """Keys of the papers that the codec follows."""

    @abstractmethod
    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what the network sees of one signal, ``(channels, *spatial)``.

        Args:
            signal_shape: Shape of one signal, channels first.

        Raises:
            ValueError: If the codec cannot take such signals.
        """

    @abstractmethod
    def build(self, signal_shape: tuple[int, ...]) -> Codec:
        """The codec of signals of one shape, ``(channels, ...)``."""

    @property
    def past(self) -> int:
        """How many frames of the past there are to condition on.

        0 for a codec of whole signals. Otherwise a signal holds chunks of a stream in a row, and the network generates
        one, given what comes before it.
        """
        return 0

    def chunks(self, signal_shape: tuple[int, ...]) -> int:
        """How many chunks of a stream a signal holds."""
        del signal_shape
        return 2 if self.past else 1

    def chunk_shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one chunk as a signal; half of it along the last axis.

        Raises:
            ValueError: If there is no half of it.
        """
        if signal_shape[-1] % 2:
            raise ValueError(f"signals of length {signal_shape[-1]} are not two chunks; an even number is needed")
        return (*signal_shape[:-1], signal_shape[-1] // 2)

    def lasting_shape(self, signal_shape: tuple[int, ...], chunks: int) -> tuple[int, ...]:
        """Shape of a signal that holds a whole past and so many chunks after it.

        Args:
            signal_shape: Shape of one signal.
            chunks: Chunks after the past.

        Raises:
            ValueError: If signals hold no more chunks than they do, whatever their length.
        """
        del signal_shape, chunks
        raise ValueError("streams of its own are for models of next frames; leave --objective.streams out")

    def pair_shape(self, signal_shape: tuple[int, ...], frames: int) -> tuple[int, ...] | None:
        """Shape of what :meth:`Codec.preceded` makes of a chunk and ``frames`` of the past; ``None`` for nothing.

        Args:
            signal_shape: Shape of one signal.
            frames: Frames of the past that the network is shown.
        """
        del signal_shape, frames
        return None

    def check_rollout(self, signal_shape: tuple[int, ...], rollout: int) -> None:
        """Check that a signal holds so many chunks between its first past and its last chunk; here it holds none.

        Raises:
            ValueError: If it does not.
        """
        del signal_shape
        if rollout:
            raise ValueError(
                f"the model has no chunks to make itself before the last one, got --model.context.rollout {rollout}; "
                "give 0"
            )

    def context_field(self, signal_shape: tuple[int, ...], frames: int) -> SignalField:
        """What a network is shown of the past: the last ``frames`` of it, along the last axis ahead of the chunk."""
        return SignalField(shape=(*self.shape(signal_shape)[:-1], frames), before=True)

    @property
    def has_weights(self) -> bool:
        """Whether the codec has weights, which lie beside those of the model."""
        return False

    def fitted(self, signal_shape: tuple[int, ...], *, dims: int | None, multiples: tuple[int, ...]) -> Self:
        """The codec for a network that takes ``dims`` spatial dimensions whose sizes are multiples of ``multiples``.

        Args:
            signal_shape: Shape of one signal, channels first.
            dims: Spatial dimensions that the network takes; ``None`` for any number.
            multiples: What each spatial size must be a multiple of; one number stands for all.

        Raises:
            ValueError: If there is none; an :class:`UnfitShapeError` where another shape would fit.
        """
        shape = self.shape(signal_shape)
        if dims is not None and len(shape) != dims + 1:
            raise ValueError(f"this network takes {dims} spatial dimensions, and these signals have {len(shape) - 1}")
        check_multiples("signals of shape", shape, signal_shape, multiples)
        return self

    def calibrated(self, signals: Iterable[Float[Tensor, "b ..."]], sigma_data: float) -> Self:
        """The codec whose output has the standard deviation ``sigma_data`` on these signals, where it has such a scale.

        Args:
            signals: Batches of signals.
            sigma_data: What the model expects.

        Raises:
            ValueError: If there is nothing to learn from them, such as silence.
        """
        del signals, sigma_data
        return self

    def aligned(self, known: CodecConfig) -> Self:
        """The codec that gives values like those of ``known``, whose model this one starts from or has as its teacher.

        Raises:
            ValueError: If the two are of different kinds.
        """
        if type(known) is not type(self):
            raise ValueError(f"its codec is {type(known).__name__} instead of {type(self).__name__}")
        return self


@dataclass(frozen=True, kw_only=True)
class WeightedCodecConfig(CodecConfig):
    """Options of a codec with weights, which are trained before the model and frozen."""

    weights: str = ""
    """File of the weights, or a model's folder that has them; beside a model it is ``codec.safetensors``."""
    sha256: str = ""
    """SHA-256 of the weights, so that no others are taken; empty for any."""

    @property
    def has_weights(self) -> bool:
        """Always."""
        return True


class Codec(nn.Module, ABC):
    """Signals to what the network sees and back. It may have weights, which are frozen.

    Args:
        config: Its options.
        signal_shape: Shape of one signal.
    """

    def __init__(self, config: CodecConfig, signal_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config: Any = config
        self.signal_shape = tuple(signal_shape)
        self.shape = config.shape(self.signal_shape)
        """Shape of what the network sees of one signal, ``(channels, *spatial)``."""

    @abstractmethod
    def encode(self, signal: Float[Tensor, "b *signal"]) -> Float[Tensor, "b *shape"]:
        """Signals as the network sees them, differentiable; of two chunks the second."""

    @abstractmethod
    def decode(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *signal"]:
        """Inverse of :meth:`encode`, clamped to the range of signals.

        Raises:
            ValueError: If the codec is :attr:`chunked`: chunks are decoded in order, by :meth:`decode_next`.
        """

    def within_range(self, signal: Tensor) -> Tensor:
        """Signals clamped to the range that they can have; here [-1, 1]."""
        return signal.clamp(-1, 1)

    def encode_reference(self, signal: Float[Tensor, "b ..."]) -> Tensor:
        """Reference signals as the network sees them; they may have another shape, if the codec has no weights."""
        shape = tuple(signal.shape[1:])
        return (self if shape == self.signal_shape else self.config.build(shape)).encode(signal)

    @property
    def chunked(self) -> bool:
        """Whether a signal holds chunks of a stream: those before, and the one to generate."""
        return self.config.past > 0

    def split(self, signal: Float[Tensor, "b *signal"], number: int = -1) -> tuple[Tensor, Float[Tensor, "b *shape"]]:
        """The past and a chunk of a stream, of :attr:`shape`, as the network sees them.

        Args:
            signal: Signals.
            number: Which of their chunks; the last one by default. Negative numbers count from the end.

        Raises:
            ValueError: If the codec is not :attr:`chunked`, or nothing comes before that chunk.
        """
        del signal, number
        raise ValueError(f"{type(self).__name__} has no such chunk with one before it; it may encode whole signals")

    def start(self, like: Float[Tensor, "b *shape"]) -> Tensor:
        """The state of :meth:`decode_next` before the first chunk, one row for each stream in the batch ``like``."""
        return like.new_zeros(len(like), 0)

    def past_of(self, signal: Float[Tensor, "b ..."]) -> Tensor:
        """The past of streams that go on from given signals.

        Raises:
            ValueError: If streams of such signals begin from nothing alone.
        """
        del signal
        raise ValueError("streams of this model begin from nothing; it cannot go on from a signal")

    def no_past(self, like: Float[Tensor, "b *shape"]) -> Tensor:
        """What stands for the past of streams that begin, one row for each stream in the batch ``like``."""
        return torch.zeros_like(like)

    def recent(self, past: Tensor, frames: int) -> Tensor:
        """The last ``frames`` of the past, as :meth:`CodecConfig.context_field` describes them."""
        return past[..., -frames:]

    def remember(self, past: Tensor, x: Float[Tensor, "b *shape"], first: Bool[Tensor, " b"]) -> Tensor:
        """The past after a chunk, as large as before it: here the chunk itself.

        Args:
            past: The past before it.
            x: The chunk.
            first: Which streams began with it.
        """
        del past, first
        return x

    def preceded(self, recent: Tensor, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b ..."]:
        """The end of the past and the chunk after it as one signal, differentiable by the chunk.

        Args:
            recent: What :meth:`recent` gives.
            x: The chunk.

        Raises:
            ValueError: If :meth:`CodecConfig.pair_shape` is ``None``.
        """
        del recent, x
        raise ValueError(f"{type(self).__name__} makes no signal of a chunk and what comes before it")

    def join(self, chunks: list[Tensor]) -> Float[Tensor, "b ..."]:
        """Chunks in a row, as :meth:`decode_next` gives them, as one signal: along the last axis."""
        return torch.cat(chunks, dim=-1)

    def decode_next(self, x: Float[Tensor, "b *shape"], state: Tensor) -> tuple[Float[Tensor, "b ..."], Tensor]:
        """The next chunk of a stream as a signal.

        Args:
            x: What the network made.
            state: What :meth:`start`, or this method for the previous chunk, returned.

        Returns:
            The signal of the chunk, and the state for the next call.
        """
        return self.decode(x), state

    def cut(self, signal: Float[Tensor, "b ..."]) -> list[Tensor]:
        """The chunks of signals of any number of them, whose inverse is :meth:`join`.

        Raises:
            ValueError: If chunks have no ends of their own, such as those that overlap, so that signals cannot be
                edited chunk by chunk.
        """
        del signal
        raise ValueError("chunks of this model overlap, so that signals cannot be edited chunk by chunk")

    def encode_next(self, signal: Float[Tensor, "b ..."], state: Tensor) -> Float[Tensor, "b *shape"]:
        """A chunk that :meth:`cut` gives, as the network sees it: the inverse of :meth:`decode_next`.

        Args:
            signal: The chunk.
            state: As for :meth:`decode_next`.

        Raises:
            ValueError: As :meth:`cut`.
        """
        del signal, state
        raise ValueError("chunks of this model overlap, so that signals cannot be edited chunk by chunk")

    def frozen(self) -> Self:
        """Itself, in evaluation mode, with weights that are not trained."""
        return self.eval().requires_grad_(False)

    def extra_repr(self) -> str:
        """Both shapes, for ``print``."""
        return f"{'x'.join(map(str, self.signal_shape))} -> {'x'.join(map(str, self.shape))}"
