"""What a network makes of conditions that are arrays: sequences of tokens to attend to, and reference signals."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.attention import attend
from unistep.nets.blocks import conv, space_to_depth
from unistep.nets.embedding import ScalarEmbedding


class TokenProjection(nn.Module):
    """Brings a sequence of vectors to the features of the network, with a learned vector ahead of it.

    The learned vector is always attended to, so that an empty sequence, the null condition, is one as well.

    Args:
        dim: Features of each vector.
        out: Features of the network's tokens.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, out)
        self.null_embedding = nn.Parameter(torch.zeros(out))
        self.summary_hidden = nn.Linear(dim, out)
        self.summary_last = nn.Linear(out, out)
        nn.init.zeros_(self.summary_last.weight)
        nn.init.zeros_(self.summary_last.bias)

    def summary(self, value: Any | None, like: Tensor) -> Tensor | float:
        """Features of the whole sequence, ``[b, out]``, from the mean of its vectors; zero for an empty one.

        They join the embedding of the time, which modulates every block: what a sequence says on the whole is learned
        much sooner than by attention alone. The last layer starts at zero.

        Args:
            value: As for :meth:`forward`.
            like: Gives the type and the device.
        """
        if value is None:
            return 0.0
        if value.tokens.shape[-1] != self.project.in_features:
            raise ValueError(f"tokens must have {self.project.in_features} features, got {list(value.tokens.shape)}")
        has = value.mask.to(like)[..., None]
        mean = (self.norm(value.tokens.to(like)) * has).sum(dim=1) / has.sum(dim=1).clamp(min=1)
        return self.summary_last(F.silu(self.summary_hidden(mean))) * has.amax(dim=1)

    def forward(self, value: Any | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[b, 1 + n, out]`` and which of them count, ``[b, 1 + n]``.

        Args:
            value: A value with ``tokens`` ``[b, n, dim]`` and ``mask`` ``[b, n]``, or ``None`` for the null condition.
            like: A batch, for its size, device and type.
        """
        first = self.null_embedding.to(like).expand(like.shape[0], 1, -1)
        always = torch.ones(like.shape[0], 1, dtype=torch.bool, device=like.device)
        if value is None:
            return first, always
        if value.tokens.shape[-1] != self.project.in_features:
            raise ValueError(f"tokens must have {self.project.in_features} features, got {list(value.tokens.shape)}")
        tokens = self.project(self.norm(value.tokens.to(like)))
        return torch.cat([first.to(tokens), tokens], dim=1), torch.cat([always, value.mask], dim=1)


class CrossAttention(nn.Module):
    """Pre-normalised multi-head attention from all positions of a signal to tokens; zero-initialised output.

    Args:
        channels: Channels of the signal, a multiple of ``head_dim``.
        token_dim: Features of the tokens.
        head_dim: Channels per head.
    """

    def __init__(self, channels: int, token_dim: int, head_dim: int = 64) -> None:
        super().__init__()
        head_dim = min(head_dim, channels)
        if channels % head_dim:
            raise ValueError(f"attention needs channels divisible by head_dim, got {channels} and {head_dim}")
        self.heads = channels // head_dim
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(token_dim, 2 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Add to each position of ``x`` what it attends to.

        Args:
            x: Signal, shape ``[b, c, *spatial]``.
            tokens: Shape ``[b, m, token_dim]``.
            mask: Which of the tokens count, shape ``[b, m]``.
        """
        b, c, *spatial = x.shape
        q = self.query(self.norm(x.flatten(2).transpose(1, 2))).view(b, -1, self.heads, c // self.heads).transpose(1, 2)
        k, v = self.key_value(tokens).view(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, mask[:, None, None, :]).transpose(1, 2).reshape(b, -1, c)
        return x + self.out(mixed).transpose(1, 2).reshape(b, c, *spatial)


class SignalInput(nn.Module):
    """A second input layer, for a reference signal of the same spatial size; zero-initialised.

    Its output is added to that of the first input layer: the signal and the reference concatenated along the channels.

    Args:
        dims: Spatial dimensions.
        channels: Channels of the reference.
        patch: Space-to-depth factor of the input.
        width: Channels out.
        embedding_dim: Features of the embedding of its noise level.
        kernel: Size of its convolution over folded positions.
    """

    def __init__(self, dims: int, channels: int, patch: int, width: int, embedding_dim: int, kernel: int = 3) -> None:
        super().__init__()
        self.channels, self.patch = channels, patch
        self.input = conv(dims, channels * patch**dims, width, kernel)
        self.level = ScalarEmbedding(1.0, embedding_dim)
        for parameter in self.input.parameters():
            nn.init.zeros_(parameter)

    def embed(self, value: Any | None, like: Tensor) -> Tensor:
        """Embedding of the noise level, ``[b, embedding_dim]``; learned features for the null condition."""
        nothing = like.new_full(like.shape[:1], torch.nan)
        return self.level(nothing if value is None else value.level.to(like))

    def forward(self, value: Any | None, x: Tensor, before: int = 0, after: int = 0) -> Tensor | float:
        """What is added to the output of the first input layer; 0 for the null condition of the whole batch.

        Args:
            value: A value with ``signal`` ``[b, channels, *spatial]`` and ``level`` ``[b]``, or ``None``.
            x: The signal, shape ``[b, c, *spatial]``.
            before: Positions ahead of the signal along the last axis.
            after: Positions after it.
        """
        if value is None:
            return 0.0
        shape = (x.shape[0], self.channels, *x.shape[2:])
        if tuple(value.signal.shape) != shape:
            raise ValueError(f"a reference signal must have shape {list(shape)}, got {list(value.signal.shape)}")
        has = value.level.isfinite().view(-1, *[1] * (x.ndim - 1))
        signal = F.pad(torch.where(has, value.signal, 0).to(x), (before, after))
        return self.input(space_to_depth(signal, self.patch)) * has.to(x)
