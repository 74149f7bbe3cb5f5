"""Statistics of many batches in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def standard_deviation(batches: Iterable[Float[Tensor, "b ..."]]) -> float:
    r"""Standard deviation of all values of all batches, computed in float64.

    .. math:: \sqrt{\mathrm{E}[x^2] - \mathrm{E}[x]^2}

    Args:
        batches: Batches of any shape.

    Returns:
        The deviation; 0 where all values are the same.
    """
    moments = torch.zeros(3, dtype=torch.float64)
    for batch in batches:
        x = batch.double()
        moments += torch.stack([torch.tensor(float(x.numel()), dtype=x.dtype), x.sum(), x.square().sum()]).cpu()
    count, total, squares = moments.tolist()
    return math.sqrt(max(squares / count - (total / count) ** 2, 0.0)) if count else 0.0
