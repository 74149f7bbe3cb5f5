"""Numbers that the original code produced on seeded inputs; every file names its repository, commit and functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unistep.core.seeding import Randomness
from unistep.core.timesteps import LogNormal, UniformIndex


def reference(name: str) -> dict[str, Any]:
    """The fixture ``name``."""
    return json.loads((Path(__file__).parent / "fixtures" / f"{name}.json").read_text())


def signal(values: list[float], shape: list[int]) -> Tensor:
    """A stored tensor in float32."""
    return torch.tensor(values).view(shape)


@dataclass(frozen=True, kw_only=True)
class GivenIndex(UniformIndex):
    """A law that answers the stored indices."""

    indices: tuple[int, ...]

    def draw(self, num: int, levels: Tensor, generator: Randomness) -> Tensor:
        return torch.tensor(self.indices)


@dataclass(frozen=True, kw_only=True)
class GivenLevels(LogNormal):
    """A law that answers the stored noise levels."""

    levels: tuple[float, ...]

    def draw(self, num: int, generator: Randomness) -> Tensor:
        return torch.tensor(self.levels)
