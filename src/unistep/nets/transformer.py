"""The transformer block of the DiT: attention and a perceptron, scaled, shifted and gated by the embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unistep.nets.attention import attend
from unistep.nets.blocks import affine, pixel_norm
from unistep.nets.conditioning import CrossAttention
from unistep.nets.positions import rotate


def to_tokens(features: Tensor, grid: Sequence[int]) -> Tensor:
    """Features of the tokens of a grid: ``[b, c]`` to ``[b, 1, c]``, and ``[b, *n, c]`` to ``[b, tokens, c]``.

    Args:
        features: One vector for each item, or for each position along axes, some of which may have size 1.
        grid: Sizes of the grid.
    """
    if features.ndim == 2 or all(n == 1 for n in features.shape[1:-1]):
        return features.flatten(1, -2) if features.ndim > 2 else features[:, None]
    return features.expand(-1, *grid, -1).flatten(1, -2)


class Modulation(nn.Module):
    r"""Scales, shifts and gates of a block from the embedding; the scales and gates start at zero.

    With double normalisation the scale and the shift are normalised, as in
    :class:`~unistep.nets.blocks.ResidualBlock`; the shift then starts at random.

    Args:
        embedding_dim: Features of the embedding.
        width: Features of a token.
        branches: How many scales and shifts there are.
        gates: How many gates.
        double_norm: Whether to normalise the scales and shifts.

    References:
        Peebles & Xie 2023, arXiv 2212.09748, section 3.2, adaLN-Zero.
    """

    def __init__(self, embedding_dim: int, width: int, branches: int, gates: int, double_norm: bool) -> None:
        super().__init__()
        self.branches, self.gates, self.double_norm = branches, gates, double_norm
        self.linear = nn.Linear(embedding_dim, (2 * branches + gates) * width)
        nn.init.zeros_(self.linear.bias)
        if double_norm:
            shifts = slice(branches * width, 2 * branches * width)
            kept = self.linear.weight[shifts].detach().clone()
            nn.init.zeros_(self.linear.weight)
            self.linear.weight.data[shifts] = kept
        else:
            nn.init.zeros_(self.linear.weight)

    def forward(self, embedding: Tensor, grid: Sequence[int]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Scales (one added), shifts and gates, each ``[b, 1 or tokens, width]``.

        Args:
            embedding: Shape ``[b, embedding_dim]``, or ``[b, *n, embedding_dim]`` with ``n`` the grid's sizes or 1.
            grid: Sizes of the grid of tokens.
        """
        parts = to_tokens(self.linear(embedding), grid).chunk(2 * self.branches + self.gates, dim=-1)
        scales = [1 + part for part in parts[: self.branches]]
        shifts = list(parts[self.branches : 2 * self.branches])
        if self.double_norm:
            scales, shifts = ([pixel_norm(p, dim=-1).to(p.dtype) for p in found] for found in (scales, shifts))
        return scales, shifts, list(parts[2 * self.branches :])


class RotaryAttention(nn.Module):
    r"""Multi-head self-attention with normalised queries and keys, which their positions turn.

    Normalisation keeps the logits bounded, however large the weights grow,

    .. math:: \mathrm{softmax}\big(\mathrm{LN}(X W_Q)\, \mathrm{LN}(X W_K)^\top / \sqrt{d}\big)\, X W_V

    Args:
        width: Features of a token, a multiple of ``head_dim``.
        head_dim: Features of a head.

    References:
        Dehghani et al. 2023, arXiv 2302.05442, equation in section 2.1; Su et al. 2021, arXiv 2104.09864, equation 16.
    """

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.heads = width // head_dim
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = nn.LayerNorm(head_dim, bias=False)
        self.norm_k = nn.LayerNorm(head_dim, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """Mix the tokens ``[b, n, width]``; same shape out.

        Args:
            x: Tokens.
            rotation: Cosines and sines, ``[n, head_dim / 2]`` each; ``None`` where positions turn nothing.
            mask: Which tokens, along the last axis, each one sees, ``[n, n]``; all without.
        """
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).unbind(dim=2)
        q, k = (norm(u).transpose(1, 2) for norm, u in ((self.norm_q, q), (self.norm_k, k)))
        v = v.transpose(1, 2)
        if rotation is not None:
            cos, sin = (r.to(v.dtype) for r in rotation)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.out(attend(q.to(v.dtype), k.to(v.dtype), v, mask).transpose(1, 2).reshape(b, n, width))


class TransformerBlock(nn.Module):
    r"""Self-attention, cross-attention where there are tokens of a condition, and a perceptron.

    .. math:: x \leftarrow x + g_1 \odot \mathrm{Attention}(\mathrm{LN}(x) \odot (1 + s_1) + b_1), \quad
              x \leftarrow x + g_2 \odot \mathrm{MLP}(\mathrm{LN}(x) \odot (1 + s_2) + b_2)

    with the scales, shifts and gates linear in the embedding and zero at first, so that the block starts as the
    identity.

    Args:
        width: Features of a token.
        head_dim: Features of a head.
        mlp_ratio: Features in the middle of the perceptron, as a multiple of the width.
        embedding_dim: Features of the embedding.
        dropout: Probability of dropping an activation of the perceptron.
        double_norm: Whether to normalise scales and shifts.
        cross_attention: Whether positions attend to the tokens of a condition.

    References:
        Peebles & Xie 2023, arXiv 2212.09748, section 3.2.
    """

    def __init__(
        self,
        width: int,
        head_dim: int,
        mlp_ratio: float,
        embedding_dim: int,
        dropout: float,
        double_norm: bool,
        cross_attention: bool,
    ) -> None:
        super().__init__()
        hidden = round(mlp_ratio * width)
        self.modulation = Modulation(embedding_dim, width, branches=2, gates=2, double_norm=double_norm)
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = RotaryAttention(width, head_dim)
        self.cross_attention = CrossAttention(width, embedding_dim, head_dim) if cross_attention else None
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.up = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, width)
        for layer in (self.attention.qkv, self.attention.out, self.up, self.down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        grid: Sequence[int],
        rotation: tuple[Tensor, Tensor] | None,
        condition: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Transform tokens ``[b, n, width]``.

        Args:
            x: Tokens of the signal.
            embedding: Shape ``[b, embedding_dim]``, or ``[b, *n, embedding_dim]`` with ``n`` the grid's sizes or 1.
            grid: Sizes of the grid of tokens.
            rotation: Cosines and sines of the positions.
            condition: Tokens of the condition, and which of them count.
        """
        scales, shifts, gates = self.modulation(embedding, grid)
        h = self.attention(affine(self.norm_1(x), scales[0], shifts[0]), rotation)
        x = affine(h, gates[0], x)
        if self.cross_attention is not None and condition is not None:
            x = self.cross_attention(x.transpose(1, 2), *condition).transpose(1, 2)
        h = F.gelu(self.up(affine(self.norm_2(x), scales[1], shifts[1])), approximate="tanh")
        return affine(self.down(self.dropout(h)), gates[1], x)
