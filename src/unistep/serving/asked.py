"""What clients ask of a server, and what it makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unistep.provenance import Provenance
from unistep.serving.caller import Caller
from unistep.serving.jobs import Done


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a client asks of a model."""

    model: str
    """Name of the model."""
    items: int = 1
    """How many."""
    seed: int | None = None
    """Seed of the first; drawn without."""
    steps: int | None = None
    """Sampling steps."""
    guidance: float | None = None
    """Guidance weight."""
    condition: Mapping[str, Any] | None = None
    """Values of the model's fields, as JSON holds them."""
    caller: Caller = Caller()
    """Who asks."""
    toward: tuple[int, float] | None = None
    """Another seed and a share, as :attr:`unistep.generation.requests.Request.toward`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One signal that was made, and where it comes from."""

    signal: Tensor
    """The signal ``[*signal_shape]`` on the CPU."""
    provenance: Provenance
    """Model, seed and condition."""
    done: Done
    """How it went."""

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.provenance.seeds[0]

    @property
    def condition(self) -> Mapping[str, Any]:
        """Its condition in words."""
        return self.provenance.conditions[0]
