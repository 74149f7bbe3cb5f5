"""Attention of each position of a video over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unistep.nets.positions import rotary_angles
from unistep.nets.transformer import RotaryAttention


class TimeAttention(nn.Module):
    """Pre-normalised self-attention of each position over the frames, with a residual connection; starts as nothing.

    Rotations tell how far frames are apart, so that any number of them will do.

    Args:
        channels: Number of channels, a multiple of ``head_dim``.
        head_dim: Channels per head, even.
        causal: Whether a frame sees itself and those before it alone.

    References:
        Ho et al. 2022, "Video Diffusion Models", arXiv 2204.03458, section 3, for attention over time after that
        within frames; Su et al. 2021, arXiv 2104.09864, equation 16, for the rotations.
    """

    def __init__(self, channels: int, head_dim: int, causal: bool) -> None:
        super().__init__()
        self.head_dim, self.causal = min(head_dim, channels), causal
        self.norm = nn.LayerNorm(channels)
        self.attention = RotaryAttention(channels, self.head_dim)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Mix frames of ``x``, shape ``[b * frames, c, *space]``; same shape out.

        Args:
            x: The frames of each item in a row.
            frames: How many an item has.
        """
        _, c, *space = x.shape
        tokens = x.unflatten(0, (-1, frames)).flatten(3)  # [b, f, c, n]
        b, _, _, n = tokens.shape
        tokens = tokens.permute(0, 3, 1, 2).reshape(b * n, frames, c)
        angles = rotary_angles((frames,), self.head_dim, x.device)
        mask = torch.ones(frames, frames, dtype=torch.bool, device=x.device).tril() if self.causal else None
        mixed = self.attention(self.norm(tokens), (angles.cos(), angles.sin()), mask)
        return x + mixed.view(b, n, frames, c).permute(0, 2, 3, 1).reshape(b * frames, c, *space)
