"""Values of every type, built-in and from outside the package, and a network that uses any of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from unistep.core.condition import (
    Action,
    ActionField,
    ConditionField,
    Label,
    LabelField,
    Scalar,
    ScalarField,
    Signal,
    SignalField,
    Tokens,
    TokensField,
    Value,
    Vector,
    VectorField,
)
from unistep.core.fields import ReadSignal
from unistep.core.seeding import Randomness, uniform


@dataclass(frozen=True, eq=False)
class Direction(Value):
    """A value that the package does not know: a unit vector in the plane, all zeros for none."""

    kind: ClassVar[str] = "direction"

    vector: Tensor

    def null(self) -> Direction:
        return Direction(torch.zeros_like(self.vector))

    def has_condition(self) -> Tensor:
        return self.vector.any(dim=1)

    def matches(self) -> Tensor:
        return (self.vector[:, None] == self.vector[None]).all(dim=-1)


@dataclass(frozen=True, kw_only=True)
class DirectionField(ConditionField):
    """A field of angles in degrees."""

    kind: ClassVar[str] = "direction"
    value: ClassVar[type[Value]] = Direction

    turn: float = 0.0
    """What is added to each angle."""

    @property
    def extent(self) -> str:
        return "360"

    @property
    def choices(self) -> str:
        return "an angle in degrees"

    def null(self, num: int) -> Direction:
        return Direction(torch.zeros(num, 2))

    def draw(self, num: int, generator: Randomness) -> Direction:
        return self._at(360 * uniform(num, generator))

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Direction:
        return self._at(torch.tensor([float(value) for value in values]))

    def _at(self, degrees: Tensor) -> Direction:
        angle = (degrees + self.turn).deg2rad()
        return Direction(torch.stack([angle.cos(), angle.sin()], dim=1))


def _tokens(num: int, generator: torch.Generator) -> Tokens:
    lengths = torch.randint(1, 4, (num,), generator=generator)
    return Tokens(torch.randn(num, 3, 2, generator=generator), torch.arange(3) < lengths[:, None])


def _direction(num: int, generator: torch.Generator) -> Direction:
    angle = 2 * math.pi * torch.rand(num, generator=generator)
    return Direction(torch.stack([angle.cos(), angle.sin()], dim=1))


MAKE: dict[str, Callable[[int, torch.Generator], Value]] = {
    "label": lambda num, generator: Label(torch.randint(3, (num,), generator=generator)),
    "scalar": lambda num, generator: Scalar(torch.rand(num, generator=generator)),
    "vector": lambda num, generator: Vector(torch.randn(num, 4, generator=generator)),
    "action": lambda num, generator: Action(torch.rand(num, 2, generator=generator)),
    "tokens": _tokens,
    "signal": lambda num, generator: Signal.clean(torch.randn(num, 2, 2, generator=generator)),
    "direction": _direction,
}
"""``make(num, generator)`` by type; the last is from outside the package."""

FIELDS: dict[str, ConditionField] = {
    "label": LabelField(size=3),
    "scalar": ScalarField(low=0, high=1),
    "vector": VectorField(size=4),
    "action": ActionField(names=("turn", "go"), low=(-1, 0), high=(1, 1), presets={"left": (-1, 0), "up": (0, 1)}),
    "tokens": TokensField(length=3, dim=2),
    "signal": SignalField(shape=(2, 2)),
    "direction": DirectionField(),
}
"""A field of each type."""
GIVEN: dict[str, list[Any]] = {
    "label": [2, "0", 1],
    "scalar": [0.5, "0.25", 1],
    "vector": [torch.ones(4), np.array([0.0, 1, 0, 2]), torch.full((4,), 0.5)],
    "action": ["left+up", "0.5 0", torch.tensor([-0.25, 1])],
    "tokens": [torch.ones(1, 2), torch.arange(6.0).view(3, 2), torch.full((2, 2), 0.5)],
    "signal": [torch.ones(2, 2), torch.zeros(2, 2), torch.eye(2)],
    "direction": [90, "0", 45.0],
}
"""Values of three items, as a person gives them."""
FEATURES = {"label": 1, "scalar": 1, "vector": 4, "action": 2, "tokens": 2, "signal": 4, "direction": 2}


def features(value: Value) -> Tensor:
    """The items as plain features ``[b, n]``, zeros for the null condition."""
    if isinstance(value, Tokens):
        return (value.tokens * value.mask[..., None]).sum(dim=1)
    if isinstance(value, Signal):
        return value.signal.flatten(1)
    (tensor,) = value.tensors.values()
    wide = tensor.float() + 1 if isinstance(value, Label) else tensor
    return wide.nan_to_num(0.0).view(tensor.shape[0], -1)


class Reader(nn.Module):
    """A small network for signals ``[b, 2]`` that depends on the condition ``c``, whatever its type."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3 + FEATURES[kind], 16), nn.SiLU(), nn.Linear(16, 2))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Any]) -> Tensor:
        assert isinstance(condition["c"], Value)
        return self.body(torch.cat([x, t[:, None], features(condition["c"])], dim=1))
