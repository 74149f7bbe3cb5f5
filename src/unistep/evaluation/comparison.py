"""Comparing samples with the reference on one feature network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.intervals import Estimate, FrechetReference, Resampled, resampled
from unistep.evaluation.metrics import Moments, kernel_distance, neighbourhood
from unistep.evaluation.reference import ReferenceStatistics
from unistep.evaluation.report import Figures, ReportedNetwork

_FEWEST = 4  # items on each side of the data's own distance


@final
@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was found of a row on one network."""

    figures: Figures
    """Its figures, without the ratio to the teacher."""
    distance: Resampled
    """Its distance, for that ratio."""

    def over(self, teacher: Compared) -> Figures:
        """The figures with the ratio to the teacher's row."""
        return replace(self.figures, over_teacher=self.distance.over(teacher.distance))


@final
class NetworkComparison:
    """Compares features of one network with those of the reference, and with the distance of real items.

    That distance is of the held-out part to the reference; of data without one, of one half to the other. Samples are
    divided by it with as many samples and against the same items, because a Fréchet distance falls with their number.

    Args:
        network: The network.
        statistics: The reference as it sees it.
        held_out: Features of the held-out part, where there is one.
        num: Samples of each row: no more real items are used.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        statistics: ReferenceStatistics,
        held_out: Float[Tensor, "m dim"] | None,
        num: int,
    ) -> None:
        self.network, self._statistics = network, statistics
        self._reference = self._own_reference = FrechetReference(statistics.moments)
        self._halves = held_out is None
        half = len(statistics.subset) // 2
        if held_out is None and half >= _FEWEST:
            held_out = statistics.subset[:half]
            self._own_reference = FrechetReference(Moments.of(statistics.subset[half:]))
        enough = held_out is not None and len(held_out) >= _FEWEST
        self._held_out = held_out[:num] if held_out is not None and enough else None
        self._own = None if self._held_out is None else resampled(self._held_out, self._own_reference)

    def reported(self, *, selects: bool) -> ReportedNetwork:
        """What a report says of the network."""
        return ReportedNetwork(
            label=self.network.label,
            selects=selects,
            own=None if self._own is None else self._own.value,
            own_count=0 if self._held_out is None else len(self._held_out),
            halves=self._halves,
            note=self.network.note,
        )

    def __call__(self, features: Float[Tensor, "n dim"]) -> Compared:
        """Compare the features of one row."""
        distance = resampled(features, self._reference)
        # Precision and recall depend on the number of samples, so both sides have the same; it also keeps KID's
        # subsets comparable.
        real = self._statistics.subset[: len(features)]
        kid, kid_std = kernel_distance(real, features)
        near = neighbourhood(real, some_of(features, len(real)))
        estimate = distance.estimate
        figures = Figures(
            frechet=distance.value,
            margin=estimate.margin,
            over_test=self._over_own(features, distance),
            kid=kid,
            kid_std=kid_std,
            precision=near.precision,
            recall=near.recall,
            density=near.density,
            coverage=near.coverage,
        )
        return Compared(figures=figures, distance=distance)

    def _over_own(self, features: Float[Tensor, "n dim"], distance: Resampled) -> Estimate | None:
        if self._held_out is None or self._own is None:
            return None
        count = min(len(features), len(self._held_out))
        if count < len(features) or self._own_reference is not self._reference:
            distance = resampled(some_of(features, count), self._own_reference)
        whole = count == len(self._held_out)
        own = self._own if whole else resampled(some_of(self._held_out, count), self._own_reference)
        return distance.over(own)


def some_of(features: Float[Tensor, "n dim"], count: int) -> Float[Tensor, "m dim"]:
    """As many of some items as that, drawn in the same way each time; all of them where there are no more.

    Not the first ones: samples whose conditions are those of the data's items, or one class after the other, come in
    an order, and their beginning is like no random part of the data.
    """
    if len(features) <= count:
        return features
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(0))[:count]]
