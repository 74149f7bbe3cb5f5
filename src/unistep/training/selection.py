"""Selection: the averaged weights whose samples are nearest to the data, on a network that is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """How a run watches its samples, which it does only with ``every``, keeps the best weights, and stops early."""

    every: int = 0
    """Optimizer steps between two looks; 0 for none, so that the last weights are kept."""
    features: str = ""
    """Feature network that selects, by a name that ``unistep evaluate --features`` takes: neither one that is trained
    on nor one that is reported. Without, the one that suits the signal."""
    samples: int = 2000
    """Samples for each look, always of the same seeds."""
    patience: int = 3
    """Looks without a smaller distance after which training stops; 0 for never."""

    def __post_init__(self) -> None:
        if self.every < 0 or self.patience < 0:
            raise ValueError(f"selection.every and patience must be 0 or more, got {self.every} and {self.patience}")
        if self.samples < 2:
            raise ValueError(f"selection.samples must be at least 2, got {self.samples}; 2000 is usual")


class Selection:
    """The best averaged weights so far.

    Args:
        config: When to look.
        distance: Fréchet distance of the student's samples, as it is, from the data.
        label: What it is measured on, for messages.
    """

    def __init__(self, config: SelectionConfig, distance: Callable[[], float], label: str) -> None:
        self.config, self.distance, self.label = config, distance, label
        self.looks: list[tuple[int, float]] = []
        """Step and distance of each look."""
        self.weights: dict[str, Tensor] = {}
        """The best averaged parameters by their number; empty before the first look."""

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and distance of the best look; ``None`` before the first."""
        return min(self.looks, key=lambda look: look[1], default=None)

    @property
    def turned(self) -> bool:
        """Whether the last looks have all been worse than the best."""
        if self.best is None or self.config.patience == 0:
            return False
        return len(self.looks) - 1 - self.looks.index(self.best) >= self.config.patience

    def due(self, step: int, *, end: bool = False) -> bool:
        """Whether to look after a step; also at step 0, so that training must improve on the first weights.

        Args:
            step: Number of the step.
            end: Whether it is the last one, after which there is always a look.
        """
        return (end or step % self.config.every == 0) and not any(step == seen for seen, _ in self.looks)

    def look(self, step: int, distance: float, average: Sequence[Tensor]) -> None:
        """Take in what was seen.

        Args:
            step: Number of the step.
            distance: That of the samples.
            average: The averaged parameters, whole.
        """
        if self.best is None or distance < self.best[1]:
            self.weights = {str(i): tensor.detach().clone() for i, tensor in enumerate(average)}
        self.looks.append((step, distance))

    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint beside :attr:`weights`."""
        return {"looks": [list(look) for look in self.looks]}

    def restore(self, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.looks = [(int(step), float(distance)) for step, distance in state.get("looks", [])]
        self.weights = dict(weights)
