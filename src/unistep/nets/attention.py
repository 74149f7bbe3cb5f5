"""Self-attention over all positions of a signal, with a path that forward-mode differentiation can take."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

WRITTEN_OUT = 128
"""Longest sequence on a CPU whose fused kernel has the slower way back: six times at 49 tokens in bfloat16."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Softmax attention, :math:`\mathrm{softmax}(q k^\top / \sqrt{d})\, v`.

    PyTorch's fused kernels have no forward-mode derivative (pytorch#117629), so inside ``torch.func.jvp`` the
    same formula is written out, and so it is where a short sequence is trained on a CPU; elsewhere the fused kernel is
    used.

    Args:
        q: Queries, shape ``[b, heads, n, d]``.
        k: Keys, shape ``[b, heads, m, d]``.
        v: Values, shape ``[b, heads, m, d]``.
        mask: Which keys count, broadcasting to ``[b, heads, n, m]``; all without. At least one must for each query.

    Returns:
        Shape ``[b, heads, n, d]``.
    """
    # torch.func.jvp enters a dual level for its whole body; there is no public query for it.
    short = q.device.type == "cpu" and q.requires_grad and k.shape[2] <= WRITTEN_OUT
    if short or forward_ad._current_level >= 0:
        logits = torch.einsum("bhnd,bhmd->bhnm", q * q.shape[-1] ** -0.5, k)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return torch.einsum("bhnm,bhmd->bhnd", logits.softmax(dim=-1), v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class SelfAttention(nn.Module):
    """Pre-normalised multi-head self-attention with a residual connection; zero-initialised output.

    Args:
        channels: Number of channels, a multiple of ``head_dim``.
        head_dim: Channels per head.
    """

    def __init__(self, channels: int, head_dim: int = 64) -> None:
        super().__init__()
        head_dim = min(head_dim, channels)
        if channels % head_dim:
            raise ValueError(f"attention needs channels divisible by head_dim, got {channels} and {head_dim}")
        self.heads = channels // head_dim
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix positions of ``x``, shape ``[b, c, *spatial]``; same shape out."""
        b, c, *spatial = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).view(b, -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).reshape(b, -1, c)
        return x + self.out(mixed).transpose(1, 2).reshape(b, c, *spatial)
