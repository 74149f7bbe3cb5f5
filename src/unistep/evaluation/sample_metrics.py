"""Metrics beside those of features: what can be said of samples of one kind, such as whether a note has its pitch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor

Group = Literal["samples", "test", "reference", "noise"]
"""What is measured: samples of a model, held-out data, the reference itself, or noise."""


class MetricAccumulator(ABC):
    """Metrics over one row of samples, batch by batch."""

    @abstractmethod
    def update(self, signals: Tensor, features: Mapping[str, Tensor]) -> None:
        """Take in the next signals ``[b, *shape]`` with their features ``[b, dim]`` by the hash of each network."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The metrics by the name of their column, with an arrow that says which way is better."""


class SampleMetrics(ABC):
    """Metrics that an evaluation prints beside the Fréchet distance."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What a reader should know of the columns."""

    @property
    def condition(self) -> Mapping[str, Any]:
        """Conditions that samples of a model have, one value for each sample; empty where they are free."""
        return {}

    @property
    def reference_indices(self) -> list[int] | None:
        """Items of the reference that get a row of their own where there is no held-out data; ``None`` for none."""
        return None

    @property
    def work(self) -> int:
        """Items that :meth:`prepare` goes through."""
        return 0

    def prepare(self, progress: Callable[[int], None]) -> None:
        """Compute what all rows need, once."""
        del progress

    @abstractmethod
    def accumulator(self, group: Group) -> MetricAccumulator | None:
        """A fresh accumulator for a row, or ``None`` where the metrics say nothing of such a row."""
