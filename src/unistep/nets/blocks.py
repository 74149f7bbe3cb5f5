"""The residual block of the U-Net and the parameter-free changes of resolution, for 1-, 2- and 3-D signals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def conv(dims: int, in_channels: int, out_channels: int, kernel: int = 3) -> nn.Module:
    """A same-size convolution over ``dims`` spatial dimensions with an odd ``kernel``."""
    return CONV[dims](in_channels, out_channels, kernel, padding=kernel // 2)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with the largest of 32, 16, 8, ... groups that keeps at least four channels each."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and (channels // g >= 4 or g == 1))
    return nn.GroupNorm(groups, channels)


def space_to_depth(x: Tensor, patch: int) -> Tensor:
    """Fold ``patch``-sized blocks into channels: ``[b, c, *n]`` to ``[b, c * patch**d, *(n / patch)]``."""
    if patch == 1:
        return x
    b, c, *spatial = x.shape
    dims = len(spatial)
    x = x.reshape(b, c, *(size for n in spatial for size in (n // patch, patch)))
    x = x.permute(0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2))
    return x.reshape(b, c * patch**dims, *(n // patch for n in spatial))


def depth_to_space(x: Tensor, patch: int) -> Tensor:
    """Inverse of :func:`space_to_depth`."""
    if patch == 1:
        return x
    b, c, *spatial = x.shape
    dims = len(spatial)
    x = x.reshape(b, c // patch**dims, *([patch] * dims), *spatial)
    order = [axis for d in range(dims) for axis in (2 + dims + d, 2 + d)]
    return x.permute(0, 1, *order).reshape(b, c // patch**dims, *(n * patch for n in spatial))


def halve(x: Tensor) -> Tensor:
    """Average neighbouring positions along every spatial dimension."""
    return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3](x, 2)


def double(x: Tensor) -> Tensor:
    """Repeat every position twice along every spatial dimension."""
    if not torch.compiler.is_compiling():
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    # In bfloat16 on a CPU the compiled way back of F.interpolate gives zero (PyTorch 2.13).
    b, c, *spatial = x.shape
    axes = range(3, 3 + 2 * len(spatial), 2)
    for axis in axes:
        x = x.unsqueeze(axis)
    x = x.expand(b, c, *(size for n in spatial for size in (n, 2)))
    return x.reshape(b, c, *(2 * n for n in spatial))


def channels_first(features: Tensor, dims: int) -> Tensor:
    """Features as a factor of a signal: ``[b, c]`` to ``[b, c, 1, ...]`` and ``[b, *n, c]`` to ``[b, c, *n]``.

    Args:
        features: One vector for each item, or for each position along ``dims`` axes, some of which may have size 1.
        dims: Number of spatial dimensions.
    """
    if features.ndim == 2:
        return features.view(*features.shape, *([1] * dims))
    return features.movedim(-1, 1)


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    r""":math:`x \odot s + b` with factors and summands that broadcast.

    On a CPU the fused operator runs through broadcast operands element by element, which takes up to five times as long
    as a product and a sum; elsewhere it saves a tensor.

    Args:
        x: Any tensor.
        scale: Factors.
        shift: Summands.
    """
    return x * scale + shift if x.device.type == "cpu" else torch.addcmul(shift, x, scale)


def pool_positions(features: Tensor, factor: int) -> Tensor:
    """Average neighbouring positions of ``[b, *n, c]`` along each axis longer than 1; ``[b, c]`` has none."""
    if factor == 1:
        return features
    for axis, size in enumerate(features.shape[1:-1], start=1):
        if size > 1:
            features = features.unflatten(axis, (size // factor, factor)).mean(dim=axis + 1)
    return features


def pixel_norm(x: Tensor, eps: float = 1e-8, dim: int = 1) -> Tensor:
    r"""Vectors of mean square one along the channels, in float32.

    .. math:: x / \sqrt{\tfrac1C\sum_c x_c^2 + \epsilon}

    Args:
        x: Any tensor.
        eps: What keeps the division finite.
        dim: The axis of the channels.

    References:
        Karras et al. 2018, arXiv 1710.10196, section 4.2.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


class ResidualBlock(nn.Module):
    r"""Two convolutions with group normalisation; the embedding scales and shifts the second normalisation.

    The block of Dhariwal & Nichol 2021 (arXiv 2105.05233, section 3.1). The last convolution starts at zero, so
    that the block starts as its skip connection. With double normalisation the scale and the shift are normalised
    as well, so that neither can grow with training and with it the derivative in time,

    .. math:: y = \mathrm{norm}(x) \odot \mathrm{pnorm}(1 + s(t)) + \mathrm{pnorm}(b(t))

    (Lu & Song 2024, arXiv 2410.11081, section 4.1; their :math:`s` has our one as its bias). There :math:`b` starts
    at random: at zero a unit vector has no direction.

    Args:
        dims: Number of spatial dimensions, 1 to 3.
        in_channels: Channels in.
        out_channels: Channels out.
        embedding_dim: Features of the embedding.
        dropout: Probability of dropping an activation between the two convolutions.
        double_norm: Whether to normalise the scale and the shift.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        dropout: float,
        double_norm: bool = False,
    ) -> None:
        super().__init__()
        self.double_norm = double_norm
        self.norm_in = group_norm(in_channels)
        self.conv_in = conv(dims, in_channels, out_channels)
        self.modulation = nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_out = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = conv(dims, out_channels, out_channels)
        self.skip = nn.Identity() if in_channels == out_channels else conv(dims, in_channels, out_channels, kernel=1)
        nn.init.zeros_(self.modulation.weight[:out_channels] if double_norm else self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.conv_out.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Transform ``x`` of shape ``[b, in_channels, *spatial]``.

        Args:
            x: The signal.
            embedding: Shape ``[b, embedding_dim]``, or ``[b, *n, embedding_dim]`` with ``n`` the spatial sizes or 1.
        """
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = channels_first(self.modulation(embedding), x.ndim - 2).chunk(2, dim=1)
        scale = scale + 1
        if self.double_norm:
            scale, shift = pixel_norm(scale).to(h.dtype), pixel_norm(shift).to(h.dtype)
        h = F.silu(affine(self.norm_out(h), scale, shift))
        return self.skip(x) + self.conv_out(self.dropout(h))
