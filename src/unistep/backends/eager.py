"""PyTorch, one operation after the other: how a network runs by itself, and the reference of all backends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unistep.backends.base import Backend, BackendPrecision
from unistep.backends.call import Call
from unistep.core.flowmap import NetworkCall
from unistep.precision import Precision, autocast


class Eager(Backend):
    """The network itself, in float32 or under autocast in bfloat16."""

    name = "eager"
    precisions = ("fp32", "bf16")

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        """The network; see :meth:`Backend.prepare`."""
        del calls, folder
        return WithPrecision(net, "bf16" if precision == "bf16" else "fp32", device)


class WithPrecision:
    """A network that runs in an arithmetic of its own, whatever is around it.

    Args:
        net: The network.
        precision: The arithmetic.
        device: Where it is.
    """

    def __init__(self, net: Any, precision: Precision, device: torch.device) -> None:
        self._net = net
        self._precision: Precision = precision
        self._device = device

    def __call__(self, *arguments: Any) -> Tensor:
        """Run the network."""
        with autocast(self._precision, self._device):
            return self._net(*arguments)

    def __deepcopy__(self, memo: object) -> WithPrecision:
        """Itself: a copy of a map is run by the same."""
        return self
