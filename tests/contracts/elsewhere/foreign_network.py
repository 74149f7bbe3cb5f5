"""A network of another package: an installed plugin that shares nothing with the built-in networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from unistep.nets.config import NetworkConfig
from unistep.registry import register


class Matrix(nn.Module):
    """A layer type of this package's own."""

    def __init__(self, inside: int, outside: int, scale: float = 1.0) -> None:
        super().__init__()
        self.values = nn.Parameter(scale * torch.randn(inside, outside) / math.sqrt(inside))
        self.offset = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.offset, x, self.values)


class Perceptron(nn.Module):
    """All values of a signal at once, modulated by the times and the conditions.

    It has no attribute that Unistep's own networks have: no configuration, no named embeddings, no list of layers.
    """

    def __init__(self, size: int, hidden: int, classes: Mapping[str, int], numbers: Mapping[str, float]) -> None:
        super().__init__()
        self.read = Matrix(size, hidden)
        self.clock = Matrix(4, hidden, 0.1)
        self.tables = nn.ParameterDict({name: torch.zeros(count + 1, hidden) for name, count in classes.items()})
        self.numbers = dict(numbers)
        self.dials = nn.ParameterDict({name: torch.zeros(hidden) for name in numbers})
        self.write = Matrix(hidden, size, 0.0)

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: Mapping[str, Any] | None = None
    ) -> Tensor:
        condition = {} if condition is None else condition
        s = t if s is None else s
        wide = [u.reshape(len(u), -1).mean(dim=1, keepdim=True).expand(len(x), 1) for u in (t, s)]
        h = self.read(x.flatten(1)) + self.clock(torch.cat([*wide, wide[0].sin(), wide[1].sin()], dim=1))
        for name, table in self.tables.items():
            given = condition.get(name, torch.full((len(x),), -1))
            label = given if isinstance(given, Tensor) else given.index
            h = h + table[torch.where(label < 0, len(table) - 1, label)]
        for name, dial in self.dials.items():
            if name in condition:
                given = condition[name]
                number = given if isinstance(given, Tensor) else given.value
                h = h + (torch.where(number.isnan(), 0, number) / self.numbers[name])[:, None] * dial
        return self.write(h * torch.sigmoid(h)).view_as(x)


@register("network", "perceptron")
@dataclass(frozen=True, kw_only=True)
class PerceptronConfig(NetworkConfig):
    """Shape of a :class:`Perceptron`."""

    hidden: int = 16
    """Features in the middle."""
    size: int = 1
    """Number of values of a signal."""
    classes: dict[str, int] = field(default_factory=dict)
    """Number of values of each label."""
    numbers: dict[str, float] = field(default_factory=dict)
    """Scale of each scalar."""

    def fitted(self, shape: tuple[int, ...], fields: Mapping[str, Any]) -> PerceptronConfig:
        for name, spec in fields.items():
            if spec.kind not in ("label", "scalar"):
                raise ValueError(f"a perceptron takes labels and scalars, and {name} is a {spec.kind}")
        return replace(
            self,
            size=math.prod(shape),
            classes={name: spec.size for name, spec in fields.items() if spec.kind == "label"},
            numbers={name: max(-spec.low, spec.high) for name, spec in fields.items() if spec.kind == "scalar"},
        )

    def build(self) -> Perceptron:
        return Perceptron(self.size, self.hidden, self.classes, self.numbers)
