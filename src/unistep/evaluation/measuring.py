"""What is found of the items of one row: features by every network, and the further metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from unistep.evaluation.extra_figures import Found
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.reference import extract
from unistep.evaluation.sample_metrics import Group, MetricAccumulator, SampleMetrics

if TYPE_CHECKING:
    from unistep.modalities.base import Modality


@final
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is kept of the samples of one row."""

    features: list[Tensor]
    """Features by each network, ``[n, dim]``."""
    extra_metrics: Found
    """What the further metrics found."""
    alike: Found
    """What those that depend on the number of items found of as many as are held out, where these are fewer."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.features[0])


@final
class Measure:
    """Turns batches of signals into features by every network, and into the further metrics, in one stream."""

    def __init__(
        self, networks: Sequence[FeatureNetwork], modality: Modality, metrics: Sequence[SampleMetrics]
    ) -> None:
        self._networks, self._modality, self._metrics = networks, modality, metrics

    def _accumulators(self, group: Group, *, counted: bool = False) -> list[MetricAccumulator]:
        found = [metric.accumulator(group) for metric in self._metrics if metric.counted or not counted]
        return [a for a in found if a is not None]

    def __call__(self, batches: Iterator[Tensor], advance: Any, group: Group, part: Tensor | None = None) -> Measured:
        kept: list[list[Tensor]] = [[] for _ in self._networks]
        accumulators = self._accumulators(group)
        alike = [] if part is None else self._accumulators(group, counted=True)
        done = 0
        for batch in batches:
            x = self._modality.quantised(batch)
            features = [next(extract(network, [x])) for network in self._networks]
            for each, new in zip(kept, features, strict=True):
                each.append(new)
            by_hash = {network.hash: new for network, new in zip(self._networks, features, strict=True)}
            for accumulator in accumulators:
                accumulator.update(x, by_hash)
            rows = None if part is None else part[done : done + len(x)]
            for accumulator in alike if rows is not None and rows.any() else ():
                accumulator.update(x[rows], {each: new[rows] for each, new in by_hash.items()})
            done += len(x)
            if advance:
                advance(len(x))
        metrics, fewer = (
            {k: v for accumulator in several for k, v in accumulator.compute().items()}
            for several in (accumulators, alike)
        )
        return Measured(features=[torch.cat(each) for each in kept], extra_metrics=metrics, alike=fewer)


def part_of(num: int, count: int | None) -> Tensor | None:
    """Which of ``num`` samples stand beside ``count`` held-out items, where these are fewer: as many, at random."""
    if count is None or count >= num:
        return None
    chosen = torch.zeros(num, dtype=torch.bool)
    chosen[torch.randperm(num, generator=torch.Generator().manual_seed(0))[:count]] = True
    return chosen
