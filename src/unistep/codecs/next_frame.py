"""Clips as a stream of frames: the network makes the next one, given those before it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unistep.codecs.base import Codec, CodecConfig, UnfitShapeError, nearest_multiples
from unistep.core.signal_fields import SignalField


@dataclass(frozen=True, kw_only=True)
class NextFrameConfig(CodecConfig):
    """Options of :class:`NextFrame`."""

    papers: ClassVar[tuple[str, ...]] = ("alonso2024diamond",)

    history: int = 4
    """Frames before the next one that there are to condition on; a stream keeps no more of them."""
    scale: float = 1.0
    """Factor between a signal and what the network sees."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if self.history < 1:
            raise ValueError(f"history must be at least 1 frame, got {self.history}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")

    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """One frame, ``(c, h, w)``.

        Raises:
            ValueError: If signals are no clips, or too short.
        """
        if len(signal_shape) != 4:
            raise ValueError(
                f"frames are those of clips [c, frames, h, w], got a signal of shape {_listed(signal_shape)}"
            )
        if signal_shape[1] <= self.history:
            raise ValueError(
                f"a clip must hold the {self.history} frames of the history and the next one, got {signal_shape[1]} "
                f"frames; give --data.frames {self.history + 1} or more"
            )
        return (signal_shape[0], *signal_shape[2:])

    def build(self, signal_shape: tuple[int, ...]) -> NextFrame:
        """The codec of clips of one shape."""
        return NextFrame(self, signal_shape)

    @property
    def past(self) -> int:
        """The frames before the next one."""
        return self.history

    def chunks(self, signal_shape: tuple[int, ...]) -> int:
        """As many as a clip has frames."""
        return signal_shape[1]

    def chunk_shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        """A clip of one frame."""
        return (signal_shape[0], 1, *signal_shape[2:])

    def lasting_shape(self, signal_shape: tuple[int, ...], chunks: int) -> tuple[int, ...]:
        """A clip of the history and the frames after it."""
        return (signal_shape[0], self.history + chunks, *signal_shape[2:])

    def pair_shape(self, signal_shape: tuple[int, ...], frames: int) -> tuple[int, ...]:
        """A clip of two frames, whatever is shown of the past."""
        del frames
        return (signal_shape[0], 2, *signal_shape[2:])

    def check_rollout(self, signal_shape: tuple[int, ...], rollout: int) -> None:
        """Check that a clip holds so many frames between the history and the next one.

        Raises:
            ValueError: If it does not.
        """
        frames, most = signal_shape[1], signal_shape[1] - self.history - 1
        if rollout > most:
            raise ValueError(
                f"a clip must hold the {self.history} frames of the history, the {rollout} of a rollout and the next "
                f"one, got {frames} frames; give --data.frames {self.history + rollout + 1} or more, or "
                f"--model.context.rollout {most}"
            )

    def context_field(self, signal_shape: tuple[int, ...], frames: int) -> SignalField:
        """The last frames as channels: they lie where the next one does."""
        channels, *sizes = self.shape(signal_shape)
        return SignalField(shape=(channels * frames, *sizes))

    def fitted(self, signal_shape: tuple[int, ...], *, dims: int | None, multiples: tuple[int, ...]) -> Self:
        """The codec for a network, which must take two dimensions.

        Raises:
            ValueError: If it does not; an :class:`UnfitShapeError` where frames of another size would fit.
        """
        try:
            return super().fitted(signal_shape, dims=dims, multiples=multiples)
        except UnfitShapeError as error:
            sizes = nearest_multiples(signal_shape[2:], multiples)
            raise UnfitShapeError(str(error), (signal_shape[0], signal_shape[1], *sizes)) from None

    def aligned(self, known: CodecConfig) -> Self:
        """The scale of ``known``."""
        super().aligned(known)
        assert isinstance(known, NextFrameConfig)
        return replace(self, scale=known.scale)


class NextFrame(Codec):
    """A frame times a factor; those before it are folded into channels, the oldest first."""

    config: NextFrameConfig

    def encode(self, signal: Float[Tensor, "b c frames h w"]) -> Float[Tensor, "b c h w"]:
        """The last frame of each clip."""
        return self.split(signal)[1]

    def decode(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """Not defined: frames are decoded in order.

        Raises:
            ValueError: Always.
        """
        raise ValueError("frames of a stream are decoded in order, by decode_next")

    def split(
        self, signal: Float[Tensor, "b c frames h w"], number: int = -1
    ) -> tuple[Float[Tensor, "b past h w"], Float[Tensor, "b c h w"]]:
        """A frame and those before it, folded.

        Args:
            signal: Clips.
            number: Which frame; negative numbers count from the end.

        Raises:
            ValueError: If the clips have no such frame with a whole history before it.
        """
        history, length = self.config.history, signal.shape[2]
        at = number if number >= 0 else length + number
        if not history <= at < length:
            raise ValueError(f"clips of {length} frames have no frame {number} with {history} before it")
        return self.past_of(signal[:, :, at - history : at]), signal[:, :, at] * self.config.scale

    def past_of(self, signal: Float[Tensor, "b c frames h w"]) -> Float[Tensor, "b past h w"]:
        """The last frames of clips, folded; where clips are shorter than the history, their first frame stands.

        Raises:
            ValueError: If they are no clips of such frames.
        """
        channels, *sizes = self.shape
        if signal.ndim != 5 or signal.shape[1] != channels or list(signal.shape[3:]) != sizes or not signal.shape[2]:
            wanted = ", ".join(map(str, (channels, "frames", *sizes)))
            raise ValueError(f"a stream goes on from clips [{wanted}], got one of shape {list(signal.shape[1:])}")
        missing = self.config.history - signal.shape[2]
        if missing > 0:
            signal = torch.cat([signal[:, :, :1].expand(-1, -1, missing, -1, -1), signal], dim=2)
        frames = signal[:, :, -self.config.history :] * self.config.scale
        return frames.transpose(1, 2).flatten(1, 2)

    def no_past(self, like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b past h w"]:
        """Zeros."""
        return like.new_zeros(len(like), self.config.history * like.shape[1], *like.shape[2:])

    def recent(self, past: Float[Tensor, "b past h w"], frames: int) -> Float[Tensor, "b recent h w"]:
        """The channels of the last frames."""
        return past[:, -frames * self.shape[0] :]

    def remember(
        self, past: Float[Tensor, "b past h w"], x: Float[Tensor, "b c h w"], first: Bool[Tensor, " b"]
    ) -> Float[Tensor, "b past h w"]:
        """The past after the frame ``x``; after the first one, a past in which nothing moved."""
        channels = x.shape[1]
        still = x.repeat(1, past.shape[1] // channels, 1, 1)
        return torch.where(first.view(-1, 1, 1, 1), still, torch.cat([past[:, channels:], x], dim=1))

    def decode_next(self, x: Float[Tensor, "b c h w"], state: Tensor) -> tuple[Float[Tensor, "b c one h w"], Tensor]:
        """Clips of one frame, clamped to [-1, 1]."""
        return (x / self.config.scale).clamp(-1, 1)[:, :, None], state

    def cut(self, signal: Float[Tensor, "b c frames h w"]) -> list[Tensor]:
        """Clips of one frame."""
        return list(signal.split(1, dim=2))

    def encode_next(self, signal: Float[Tensor, "b c one h w"], state: Tensor) -> Float[Tensor, "b c h w"]:
        """The frame times the factor."""
        del state
        return signal[:, :, 0] * self.config.scale

    def preceded(
        self, recent: Float[Tensor, "b recent h w"], x: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c two h w"]:
        """A clip of the last frame of the past and the next one, clamped to [-1, 1]."""
        last = recent[:, -x.shape[1] :]
        return (torch.stack([last, x], dim=2) / self.config.scale).clamp(-1, 1)

    def join(self, chunks: list[Tensor]) -> Float[Tensor, "b c frames h w"]:
        """Clips of all frames."""
        return torch.cat(chunks, dim=2)


def _listed(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
