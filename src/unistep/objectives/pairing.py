"""Which noise goes with which data: independent draws, or optimal transport within a batch."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition, matches

Pairing = Literal["independent", "optimal_transport"]
"""``independent`` is exact; ``optimal_transport`` straightens trajectories and biases small batches."""


def paired(
    noise: Float[Tensor, "b *shape"], x0: Float[Tensor, "b *shape"], condition: Condition, how: Pairing
) -> Float[Tensor, "b *shape"]:
    r"""Reorder the noise of a batch so that it is close to the data.

    .. math:: \min_\pi \sum_i \lVert x_0^{(i)} - z^{(\pi(i))} \rVert^2

    Only noise of examples with the same condition is exchanged: across conditions, the noise of training would depend
    on the condition, and that of sampling does not.

    Args:
        noise: Independent noise.
        x0: Data.
        condition: Fields of shape ``[b]``.
        how: Pairing; ``independent`` returns the noise as it is.

    Returns:
        The noise, reordered along the batch.

    Raises:
        ValueError: If the optimal pairing is configured and SciPy is missing.

    References:
        Pooladian et al. 2023, arXiv 2304.14772, section 3.2; Tong et al. 2024, arXiv 2302.00482, algorithm 3.
    """
    if how == "independent":
        return noise
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise ValueError("optimal-transport pairing needs SciPy: pip install 'unistep[eval]'") from None
    cost = torch.cdist(x0.flatten(1).double(), noise.flatten(1).double()).square()
    cost = cost + 1e9 * ~matches(condition, len(x0), x0.device)
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.as_tensor(order, device=noise.device)]
