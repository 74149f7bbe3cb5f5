"""A U-Net for videos: convolutions and attention within each frame, then attention of each position over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.attention import SelfAttention
from unistep.nets.blocks import (
    ResidualBlock,
    conv,
    depth_to_space,
    double,
    group_norm,
    halve,
    pool_positions,
    space_to_depth,
)
from unistep.nets.conditioned import ConditionedNetwork
from unistep.nets.conditioning import CrossAttention, SignalInput
from unistep.nets.space_time_config import SpaceTimeUNetConfig
from unistep.nets.time_attention import TimeAttention


class SpaceTimeBlock(nn.Module):
    """A residual block of each frame, attention within it, and attention over time.

    Args:
        config: Shape of the network.
        in_channels: Channels in.
        out_channels: Channels out.
        within: Whether positions of a frame attend to each other.
        over_time: Whether each position attends to itself in other frames.
    """

    def __init__(
        self, config: SpaceTimeUNetConfig, in_channels: int, out_channels: int, within: bool, over_time: bool
    ) -> None:
        super().__init__()
        self.residual = ResidualBlock(
            config.dims - 1, in_channels, out_channels, config.embedding_dim, config.dropout, config.double_norm
        )
        self.within = SelfAttention(out_channels, config.head_dim) if within else nn.Identity()
        self.over_time = TimeAttention(out_channels, config.head_dim, config.causal) if over_time else None

    def forward(self, x: Tensor, embedding: Tensor, frames: int) -> Tensor:
        """Transform ``x`` of shape ``[b * frames, in_channels, *space]``; ``embedding`` is of each frame."""
        x = self.within(self.residual(x, embedding))
        return x if self.over_time is None else self.over_time(x, frames)


class SpaceTimeUNet(ConditionedNetwork[SpaceTimeUNetConfig]):
    """U-Net whose frames are items of a batch, mixed by attention over time alone.

    So a frame costs what an image does, any number of frames will do, and a causal network depends on no later frame:
    convolutions and normalisations stay within a frame. Times and actions may differ from frame to frame. The output
    layer starts at zero.

    Args:
        config: Its shape.

    References:
        Ho et al. 2022, "Video Diffusion Models", arXiv 2204.03458, section 3, for the factorised U-Net; Chen et al.
        2024, "Diffusion Forcing", arXiv 2407.01392, for a noise level for each frame.
    """

    def __init__(self, config: SpaceTimeUNetConfig) -> None:
        super().__init__(config)
        space = config.dims - 1

        def block(c_in: int, c_out: int, level: int | None = None) -> SpaceTimeBlock:
            within = level is None or level in config.attention
            return SpaceTimeBlock(config, c_in, c_out, within, level is None or level in config.time_attention)

        folded = config.channels * config.patch**space
        width = config.widths[0]
        self.input = conv(space, folded, width)
        self.signals = nn.ModuleDict(
            {
                name: SignalInput(space, n, config.patch, width, config.embedding_dim)
                for name, n in sorted(config.signals.items())
            }
        )
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (target, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stage = nn.ModuleList()
            for _ in range(count):
                stage.append(block(width, target, level))
                width = target
            self.down.append(stage)
        self.middle = nn.ModuleList(block(width, width) for _ in range(config.middle_blocks))
        self.cross_attention = nn.ModuleList(
            CrossAttention(width, config.embedding_dim, config.head_dim)
            for _ in range(config.middle_blocks if config.tokens else 0)
        )
        for level, (target, count) in reversed(list(enumerate(zip(config.widths, config.blocks, strict=True)))):
            narrow = nn.Identity() if width == target else conv(space, width, target, kernel=1)
            stage = nn.ModuleList(block(2 * target, target, level) for _ in range(count))
            width = target
            self.up.append(nn.ModuleDict({"narrow": narrow, "blocks": stage}))
        self.output_norm = group_norm(width)
        self.output = conv(space, width, folded)
        self.gated_skip = conv(space, width, folded, kernel=1) if config.gated_skip else None
        for last in filter(None, (self.output, self.gated_skip)):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Run the network; see :meth:`ConditionedNetwork.forward`. The first spatial axis of ``x`` is time."""
        config = self.config
        self.check_shape(x)
        frames, (b, channels, _, *space) = x.shape[2], x.shape
        t, s = self.time_codes(t, x), None if s is None else self.time_codes(s, x)
        embedding = self.embed(t, s, condition)
        given = {} if condition is None else condition
        tokens = self.token_sequence(x, condition)
        x = x.transpose(1, 2).reshape(b * frames, channels, *space)
        folded = space_to_depth(x, config.patch)
        h = self.input(folded)
        for name, signal_input in self.signals.items():
            h = h + signal_input(_of_frames(given.get(name)), x)
        at_level = _pooled(embedding, config.patch, 1)
        embeddings, counts = [_per_frame(at_level, frames)], [frames]
        for _ in config.widths[1:]:
            at_level = _pooled(at_level, 2, 2 if config.halve_time else 1)
            counts.append(counts[-1] // 2 if config.halve_time else frames)
            embeddings.append(_per_frame(at_level, counts[-1]))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            if level > 0:
                h = self._halved(h, counts[level - 1])
            for block in stage:  # type: ignore[union-attr]
                h = block(h, embeddings[level], counts[level])
                skips.append(h)
        for i, block in enumerate(self.middle):
            h = block(h, embeddings[-1], counts[-1])
            if tokens is not None:
                h = self.cross_attention[i](h, *(part.repeat_interleave(counts[-1], dim=0) for part in tokens))
        for i, stage in enumerate(self.up):
            level = len(self.up) - 1 - i
            h = stage["narrow"](h)  # type: ignore[index]
            if i > 0:
                h = self._doubled(h)
            for block in stage["blocks"]:  # type: ignore[index]
                h = block(torch.cat([h, skips.pop()], dim=1), embeddings[level], counts[level])
        h = F.silu(self.output_norm(h))
        out = self.output(h)
        if self.gated_skip is not None:
            out = out + self.gated_skip(h) * folded
        out = depth_to_space(out, config.patch)
        return out.view(b, frames, channels, *space).transpose(1, 2)

    def stages(self) -> list[nn.Module]:
        """The last block of each resolution on the way down, of the middle, and of each on the way up."""
        up = [stage["blocks"] for stage in self.up]  # type: ignore[index]
        return [blocks[-1] for blocks in (*self.down, self.middle, *up) if len(blocks)]  # type: ignore[index, arg-type]

    def stage_map(self, output: Tensor, batch_size: int) -> Tensor:
        """Frames, which are items of a batch on the way, as the first axis of places."""
        return output.unflatten(0, (batch_size, -1)).transpose(1, 2)

    def _halved(self, h: Tensor, frames: int) -> Tensor:
        h = halve(h)
        if not self.config.halve_time:
            return h
        return h.unflatten(0, (-1, frames // 2, 2)).mean(dim=2).flatten(0, 1)

    def _doubled(self, h: Tensor) -> Tensor:
        h = double(h)
        return h.repeat_interleave(2, dim=0) if self.config.halve_time else h


def _pooled(embedding: Tensor, space: int, time: int) -> Tensor:
    """The embedding ``[b, d]`` or ``[b, frames, *n, d]`` with neighbouring positions averaged, and so frames."""
    if embedding.ndim == 2:
        return embedding
    b, frames = embedding.shape[:2]
    inner = pool_positions(embedding.flatten(0, 1), space).unflatten(0, (b, frames))
    return inner if frames == 1 or time == 1 else inner.unflatten(1, (frames // time, time)).mean(dim=2)


def _per_frame(embedding: Tensor, frames: int) -> Tensor:
    """The embedding of each frame, ``[b * frames, d]``, or ``[b * frames, *n, d]`` where it varies in space."""
    if embedding.ndim == 2:
        return embedding.repeat_interleave(frames, dim=0)
    spread = embedding.expand(-1, frames, *embedding.shape[2:]).flatten(0, 1)
    return spread.flatten(1) if all(n == 1 for n in spread.shape[1:-1]) else spread


def _of_frames(value: Any | None) -> Any | None:
    """A reference video as references of its frames."""
    if value is None:
        return None
    signal = value.signal.transpose(1, 2)
    frames = signal.shape[1]
    return replace(value, signal=signal.flatten(0, 1), level=value.level.repeat_interleave(frames, dim=0))
