"""Calls of a network for those items of a batch that need one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

SHARES = 8
"""A call takes a multiple of this share of the batch: libraries prepare their kernels anew for each size."""


def is_compiled(module: nn.Module) -> bool:
    """Whether a network in the module is compiled, so that each size of batch would be compiled for itself."""
    return any(part._compiled_call_impl is not None for part in module.modules())


def call_where(
    needed: Bool[Tensor, "b *levels"],
    call: Callable[[Int[Tensor, " k"]], Float[Tensor, "k *shape"]],
    otherwise: Float[Tensor, "b *shape"],
) -> Float[Tensor, "b *shape"]:
    """What ``call`` gives for the items that need it, and ``otherwise`` for the others.

    The number of items called is rounded up, and at least one: processes that share a sharded network must all call it.

    Args:
        needed: Which items, or any parts of them.
        call: Takes indices of items and gives their results; for items that do not need it, those that ``otherwise``
            has, or any where ``otherwise`` is to be kept.
        otherwise: Results of the items that need no call.
    """
    rows = needed if needed.ndim == 1 else needed.flatten(1).any(dim=1)
    step = -(-len(rows) // SHARES)
    count = min(max(-(-int(rows.sum()) // step), 1) * step, len(rows))
    chosen = torch.argsort(rows.logical_not().to(torch.uint8), stable=True)[:count].sort().values
    found = call(chosen)
    return otherwise.to(found.dtype).index_copy(0, chosen, found)
