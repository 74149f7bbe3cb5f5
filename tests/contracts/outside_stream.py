"""A stream with nothing of the package in it: a codec that needs the previous chunk's end, and a network for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unistep.codecs.base import Codec, CodecConfig
from unistep.nets.config import NetworkConfig


@dataclass(frozen=True, kw_only=True)
class DifferencesConfig(CodecConfig):
    """The network sees the differences between values that follow each other along the last axis."""

    chunk: int
    """Length of a chunk, of which a signal holds two."""

    def shape(self, signal_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*signal_shape[:-1], self.chunk)

    def build(self, signal_shape: tuple[int, ...]) -> Differences:
        return Differences(self, signal_shape)

    @property
    def past(self) -> int:
        return self.chunk


class Differences(Codec):
    """Each chunk goes on from the last value of the one before, which is the state of the stream."""

    def encode(self, signal: Tensor) -> Tensor:
        return self.split(signal)[1]

    def decode(self, x: Tensor) -> Tensor:
        raise ValueError("differences are summed in order, by decode_next")

    def split(self, signal: Tensor, number: int = -1) -> tuple[Tensor, Tensor]:
        if number not in (1, -1):
            return super().split(signal, number)
        first, second = signal.diff(dim=-1, prepend=torch.zeros_like(signal[..., :1])).chunk(2, dim=-1)
        return first, second

    def start(self, like: Tensor) -> Tensor:
        return like.new_zeros(*like.shape[:-1], 1)

    def decode_next(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        signal = x.cumsum(dim=-1) + state
        return signal, signal[..., -1:]

    def cut(self, signal: Tensor) -> list[Tensor]:
        return list(signal.split(self.config.chunk, dim=-1))

    def encode_next(self, signal: Tensor, state: Tensor) -> Tensor:
        return signal.diff(dim=-1, prepend=state)


@dataclass(frozen=True, kw_only=True)
class FollowingConfig(NetworkConfig):
    """Shape of a :class:`Following`."""

    channels: int = 1
    """Channels of the signal."""
    classes: int = 0
    """Values of the label."""
    frames: int = 4
    """Frames of the previous chunk that it looks at."""

    @property
    def previous_frames(self) -> int:
        return self.frames

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> FollowingConfig:
        return replace(self, channels=shape[0], classes=fields["label"].size)

    def build(self) -> Following:
        return Following(self)


class Following(nn.Module):
    """A convolution of a chunk, shifted by the mean of the previous frames, their noise, the label and the time."""

    def __init__(self, config: FollowingConfig) -> None:
        super().__init__()
        self.mix = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.before = nn.Linear(config.channels + 3, config.channels)
        self.label = nn.Embedding(config.classes + 1, config.channels)

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Mapping[str, Any] | None = None
    ) -> Tensor:
        condition = condition or {}
        context, label = condition["context"], condition["label"]
        given = context.has_condition().to(x)
        seen = [context.signal.mean(dim=(2, 3)), context.level.nan_to_num(0.0)[:, None], given[:, None], t[:, None]]
        shift = self.before(torch.cat(seen, dim=1)) + self.label(label.index + 1)
        return torch.tanh(self.mix(x) + shift[..., None, None])
