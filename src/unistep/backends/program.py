"""A network that another program runs: tensors in, tensor out; the network itself where that program cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unistep.backends.call import Call
from unistep.core.values import Value


class Program:
    """The network call by a program outside of PyTorch, on the CPU and without gradients.

    Calls of another form than the one it was made for, and those that need gradients, go to the network.

    Args:
        net: The network.
        call: A call of the form that the program takes.
        run: The program: the output for inputs by name.
    """

    def __init__(self, net: nn.Module, call: Call, run: Callable[[Mapping[str, Tensor]], Tensor]) -> None:
        self._net, self._run = net, run
        self._form = call.form
        self._types = [tensor.dtype for tensor in call.tensors().values()]

    def __call__(self, x: Tensor, t: Tensor, s: Tensor | None, condition: Mapping[str, Value]) -> Tensor:
        """Run the network."""
        call = Call(x, t, s, condition)
        if call.form != self._form or torch.is_grad_enabled():
            return call.run(self._net)
        tensors = call.tensors()
        return self._run(
            {
                name: tensor.contiguous() if tensor.dtype == kind else tensor.to(kind).contiguous()
                for (name, tensor), kind in zip(tensors.items(), self._types, strict=True)
            }
        )

    def __deepcopy__(self, memo: Any) -> Program:
        """Itself: a copy of a map is run by the same program."""
        return self
