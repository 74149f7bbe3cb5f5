"""Metrics beside those of features: what can be said of samples of one kind, such as whether a note has its pitch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from torch import Tensor

if TYPE_CHECKING:
    from unistep.data import Dataset
    from unistep.evaluation.features import FeatureNetwork
    from unistep.evaluation.intervals import Resampled

Group = Literal["samples", "test", "reference", "noise"]
"""What is measured: samples of a model, held-out data, the reference itself, or noise."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """What is evaluated: by it metrics know whether they have something to say."""

    reference: Dataset
    """The real items."""
    test: Dataset | None
    """Held-out ones, where there are any."""
    fields: Sequence[Mapping[str, object]]
    """Conditions of each model."""
    features: Sequence[FeatureNetwork]
    """The feature networks of the evaluation."""
    given: Mapping[str, Any]
    """Conditions that all samples have."""
    num: int
    """Number of samples."""
    seed: int
    """Seed of what is drawn."""


class MetricAccumulator(ABC):
    """Metrics over one row of samples, batch by batch."""

    @abstractmethod
    def update(self, signals: Tensor, features: Mapping[str, Tensor]) -> None:
        """Take in the next signals ``[b, *shape]`` with their features ``[b, dim]`` by the hash of each network."""

    @abstractmethod
    def compute(self) -> Mapping[str, float | Resampled]:
        """The metrics by the name of their column, with an arrow that says which way is better.

        Those of which random halves are known have a table of their own, with intervals and ratios.
        """


class SampleMetrics(ABC):
    """Metrics that an evaluation prints beside the Fréchet distance; those that it looks for itself are registered as
    ``metrics``.
    """

    REGISTRY_KIND: ClassVar[str] = "metrics"

    @classmethod
    def applied(cls, given: Applied) -> Self | None:
        """The metrics of an evaluation, or ``None`` where they say nothing of such signals or models."""
        del given
        return None

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What a reader should know of the columns."""

    @property
    def condition(self) -> Mapping[str, Any]:
        """Conditions that samples of a model have, one value for each sample; empty where they are free."""
        return {}

    @property
    def counted(self) -> bool:
        """Whether figures that have intervals depend on the number of items, as a Fréchet distance falls with it: then
        they are compared with those of held-out data by as many samples.
        """
        return False

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
