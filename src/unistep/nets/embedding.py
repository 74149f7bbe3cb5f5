"""Embeddings of times, of classes, of numbers and of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_FREQUENCY = 0.0625
"""Lowest angular frequency of an embedding, in radians per unit of what is embedded."""


class PositionalEmbedding(nn.Module):
    r"""Sines and cosines of a scalar at geometrically spaced frequencies.

    .. math:: e(t) = [\cos(\omega_k t), \sin(\omega_k t)]_{k=1}^{d/2}, \quad
              \omega_k = \omega_{\min} (\omega_{\max}/\omega_{\min})^{(k-1)/(d/2-1)}

    The highest frequency stays low: a consistency model needs a network that is smooth in time (Lu & Song
    2024, section 4.1, where Fourier features of scale 16 made the tangent unstable). It is computed in float32,
    whatever the autocast state, and in float64 in a network of that type.

    Args:
        dim: Even number of features.
        min_frequency: Lowest angular frequency, in radians per unit of the time input.
        max_frequency: Highest angular frequency.
    """

    frequencies: Tensor

    def __init__(self, dim: int, min_frequency: float = MIN_FREQUENCY, max_frequency: float = 16.0) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"embedding dim must be even and at least 4, got {dim}")
        exponents = torch.linspace(math.log(min_frequency), math.log(max_frequency), dim // 2)
        self.register_buffer("frequencies", exponents.exp(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times of any shape, ``[b]`` or ``[b, *sizes]``, as features of shape ``[b, *sizes, dim]``."""
        angles = t.to(torch.promote_types(self.frequencies.dtype, torch.float32))[..., None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.frequencies.dtype)


class LabelEmbedding(nn.Module):
    """A learned vector per class, with one more for the null condition.

    Args:
        num_classes: Number of classes, numbered from 0.
        dim: Number of features.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.table = nn.Embedding(num_classes + 1, dim)

    def forward(self, label: Tensor) -> Tensor:
        """Embed labels of shape ``[b]``; a negative label is the null condition."""
        return self.table(torch.where(label < 0, self.num_classes, label))


class ScalarEmbedding(nn.Module):
    """Features of a real number, such as a guidance weight, with learned ones for the null condition.

    The last layer starts at zero, so that a trained network that gets another condition starts unchanged.

    Args:
        unit: What the number is divided by, so that it is of order one.
        dim: Number of features.
    """

    def __init__(self, unit: float, dim: int) -> None:
        super().__init__()
        if unit <= 0:
            raise ValueError(f"the unit of a number must be positive, got {unit}")
        self.unit = unit
        self.features = PositionalEmbedding(dim)
        self.hidden = nn.Linear(dim, dim)
        self.last = nn.Linear(dim, dim)
        self.null_embedding = nn.Parameter(torch.zeros(dim))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, value: Tensor) -> Tensor:
        """Embed numbers of shape ``[b]``; NaN is the null condition."""
        has = value.isfinite()
        embedded = self.last(F.silu(self.hidden(self.features(torch.where(has, value, 0) / self.unit))))
        return torch.where(has[:, None], embedded, self.null_embedding.to(embedded))


class VectorEmbedding(nn.Linear):
    """A linear layer without bias of a vector that says how an item was made: zeros have no effect.

    It starts at zero, so that a trained network that gets it starts unchanged.

    Args:
        size: Numbers of a vector.
        dim: Number of features.

    References:
        Karras et al. 2022, arXiv 2206.00364, appendix F.2.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim, bias=False)
        nn.init.zeros_(self.weight)


class LearnedPositionEmbedding(nn.Module):
    """Adds learned features to each position of a signal, which convolutions do not distinguish.

    Args:
        width: Channels.
        sizes: Spatial sizes.
    """

    def __init__(self, width: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(width, *sizes))

    def forward(self, h: Tensor) -> Tensor:
        """``h`` of shape ``[b, width, *sizes]`` with the features of its positions added."""
        return h + self.table.to(h)
