"""A call of a network as a plain list of tensors with names, which exporters and other programs understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unistep.core.values import Value

BATCH = "batch"
"""Name of the first axis of all inputs and of the output."""


def tensors_of(condition: Mapping[str, Value]) -> dict[str, Tensor]:
    """The tensors of a condition, as ``name``, or ``name_part`` of values that have several."""
    found = {}
    for name, value in condition.items():
        parts = value.tensors
        found |= {name if len(parts) == 1 else f"{name}_{part}": tensor for part, tensor in parts.items()}
    return found


def axes_of(condition: Mapping[str, Value]) -> list[dict[int, str]]:
    """The axes of each tensor of a condition whose length varies, by number, with their names."""
    return [
        {0: BATCH, **{axis: f"{name}_{length}" for axis, length in value.varying.get(part, {}).items()}}
        for name, value in condition.items()
        for part in value.tensors
    ]


def rebuilt(like: Mapping[str, Value], tensors: Sequence[Tensor]) -> dict[str, Value]:
    """A condition of the types of another one with other tensors, in the order of :func:`tensors_of`."""
    left = iter(tensors)
    return {name: type(value)(**{part: next(left) for part in value.tensors}) for name, value in like.items()}


@dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one network call."""

    x: Tensor
    """The signal, shape ``[b, *shape]``."""
    t: Tensor
    """Noise codes, shape ``[b]`` or broadcasting against ``x``."""
    s: Tensor | None
    """Second noise codes, of either shape."""
    condition: Mapping[str, Value]
    """Fields of the batch."""

    def __len__(self) -> int:
        """Number of items."""
        return len(self.x)

    @property
    def form(self) -> tuple[Any, ...]:
        """What calls agree in that one exported graph computes: all but the sizes of batches and of varying axes."""
        # Compared at each call of the network, so it is no text.
        return (
            self.x.shape[1:],
            self.t.shape[1:],
            None if self.s is None else self.s.shape[1:],
            *[(name, value.form) for name, value in self.condition.items()],
        )

    def tensors(self) -> dict[str, Tensor]:
        """The arguments by name: ``x``, ``t``, ``s``; those of a condition as ``name`` or ``name_part``."""
        times = {"t": self.t} if self.s is None else {"t": self.t, "s": self.s}
        return {"x": self.x, **times, **tensors_of(self.condition)}

    def axes(self) -> list[dict[int, str]]:
        """The axes of each tensor whose length varies, by number, with their names."""
        return [{0: BATCH} for _ in range(2 if self.s is None else 3)] + axes_of(self.condition)

    def with_tensors(self, tensors: Sequence[Tensor]) -> Call:
        """The call with other tensors in the order of :meth:`tensors`."""
        left = iter(tensors)
        x, t, s = next(left), next(left), None if self.s is None else next(left)
        return Call(x, t, s, rebuilt(self.condition, list(left)))

    def first(self, count: int) -> Call:
        """The call of the first ``count`` items."""
        return self.with_tensors([tensor[:count].clone() for tensor in self.tensors().values()])

    def repeated(self, count: int) -> Call:
        """The call of ``count`` items, these one after the other and again from the first."""
        rows = torch.arange(count) % len(self)
        return self.with_tensors([tensor[rows.to(tensor.device)] for tensor in self.tensors().values()])

    def unconditional(self) -> Call:
        """The call with the null condition in place of each condition."""
        return replace(self, condition={name: value.null() for name, value in self.condition.items()})

    def run(self, net: Any) -> Tensor:
        """What a network makes of it."""
        return net(self.x, self.t, self.s, self.condition)


class TensorNetwork(nn.Module):
    """A network whose arguments are the tensors of a call, in their order.

    Args:
        net: The network.
        call: A call of the form that it is to take.
    """

    def __init__(self, net: nn.Module, call: Call) -> None:
        super().__init__()
        self.net = net
        self._like = call

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the network."""
        return self._like.with_tensors(tensors).run(self.net)


class Recorder:
    """Runs a network and keeps the calls.

    Args:
        net: The network.
        most: How many calls are kept.
    """

    def __init__(self, net: nn.Module, most: int) -> None:
        self.calls: list[Call] = []
        self._net, self._most = net, most

    def __call__(self, x: Tensor, t: Tensor, s: Tensor | None, condition: Mapping[str, Value]) -> Tensor:
        """Run the network."""
        call = Call(x, t, s, condition)
        if len(self.calls) < self._most:
            # Copies: a call may be made in inference mode, whose tensors cannot be used outside of it.
            with torch.inference_mode(mode=False):
                self.calls.append(call.first(len(call)))
        return call.run(self._net)
