"""Metrics of clips: whether single frames, and the changes from frame to frame, are like those of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.intervals import BLOCKS, FrechetReference, Resampled, resampled_blocks
from unistep.evaluation.metrics import Moments
from unistep.evaluation.reference import batches, extract
from unistep.evaluation.sample_metrics import Applied, Group, MetricAccumulator, SampleMetrics

if TYPE_CHECKING:
    from unistep.data import Dataset

FEATURES = "random-convolutions:2"
"""Features of single frames; no model is chosen by them."""
_PAIRS = 8  # halves of frames, whose features are wide
MOST = 2_000
"""Clips of the reference that are compared with."""


@final
@dataclass(frozen=True)
class FrameStatistics:
    """What is known of the frames of some clips."""

    moments: Moments
    """Of the features of single frames."""
    changes: list[Tensor] = field(default_factory=list)
    """Root mean square differences of frames from those before them, in vectors."""

    @classmethod
    def merged(cls, parts: Sequence[FrameStatistics]) -> FrameStatistics:
        """What is known of all clips of some parts, at least one."""
        return cls(Moments.merged([part.moments for part in parts]), [c for part in parts for c in part.changes])

    def add(self, features: Float[Tensor, "n dim"], changes: Float[Tensor, " m"]) -> None:
        """Take in the features of some frames, and some changes."""
        self.moments.update(features)
        self.changes.append(changes)

    @property
    def change(self) -> Float[Tensor, " n"]:
        """All differences."""
        return torch.cat(self.changes)


def seen(
    network: FeatureNetwork, frames: Float[Tensor, "b frames *shape"]
) -> tuple[Float[Tensor, "b frames dim"], Float[Tensor, "b changes"]]:
    """Features of the frames of clips, and the root mean square difference of each from the one before."""
    features = next(extract(network, [frames.flatten(0, 1)])).unflatten(0, frames.shape[:2])
    return features, frames.float().diff(dim=1).square().flatten(2).mean(dim=2).sqrt().cpu()


def transport(a: Float[Tensor, " n"], b: Float[Tensor, " m"]) -> float:
    r"""How far one set of numbers has to be moved to become another, :math:`\int_0^1 |F_a^{-1}(u) - F_b^{-1}(u)|\,du`.

    Args:
        a: Numbers.
        b: Others.
    """
    places = (torch.arange(1_000, dtype=torch.float64) + 0.5) / 1_000
    return float((a.double().quantile(places) - b.double().quantile(places)).abs().mean())


@final
class FrameMetrics(SampleMetrics):
    """Fréchet distance of single frames, and how much frames differ from those before them.

    Args:
        reference: Real clips.
        network: Feature network of single frames.

    Raises:
        ValueError: If one moment of such signals is none itself.
    """

    def __init__(self, reference: Dataset, network: FeatureNetwork | None = None) -> None:
        self._reference, self._modality = reference, reference.modality
        still = self._modality.still
        if still is None:
            raise ValueError(f"frames are those of videos, and these are {self._modality.noun}s")
        self.network = load_features(FEATURES, still) if network is None else network
        self._real = self._statistics()

    @classmethod
    def applied(cls, given: Applied) -> Self | None:
        """For clips of two frames or more."""
        still = given.reference.modality.still
        return cls(given.reference) if still is not None and given.reference.shape[1] > 1 else None

    @property
    def meaning(self) -> str:
        return (
            f"frames: Fréchet distance of single frames on {self.network.name}; motion: root mean square change from "
            "frame to frame, over that of the reference (1 is as it should be); motion distance: how far these changes "
            "have to be moved to be distributed as in the reference, over their mean there"
        )

    @property
    def counted(self) -> bool:
        return True

    @property
    def work(self) -> int:
        return min(MOST, len(self._reference))

    def prepare(self, progress: Callable[[int], None]) -> None:
        order = torch.randperm(len(self._reference), generator=torch.Generator().manual_seed(0))[: self.work]
        for batch in batches(self._reference, order.sort().values.tolist()):
            features, changes = seen(self.network, self._modality.stills(batch))
            self._real.add(features.flatten(0, 1), changes.flatten())
            progress(len(batch))

    def accumulator(self, group: Group) -> MetricAccumulator | None:
        return None if group == "noise" else FrameAccumulator(self)

    def _statistics(self) -> FrameStatistics:
        return FrameStatistics(Moments(self.network.dim))

    def compare(self, blocks: Sequence[FrameStatistics]) -> dict[str, Resampled]:
        """The columns of clips that fall into blocks."""
        real, reference = self._real.change, FrechetReference(self._real.moments)
        mean = max(float(real.mean()), 1e-12)

        def distance(parts: Sequence[FrameStatistics]) -> float:
            moments = FrameStatistics.merged(parts).moments
            return reference.distance(moments.mean, moments.covariance)

        return {
            "frames ↓": resampled_blocks(blocks, distance, pairs=_PAIRS),
            "motion": resampled_blocks(blocks, lambda parts: float(FrameStatistics.merged(parts).change.mean()) / mean),
            "motion distance ↓": resampled_blocks(
                blocks, lambda parts: transport(real, FrameStatistics.merged(parts).change) / mean
            ),
        }


@final
class FrameAccumulator(MetricAccumulator):
    """Frame metrics over one row of samples.

    Args:
        metrics: What they are compared with.
    """

    def __init__(self, metrics: FrameMetrics) -> None:
        self._metrics, self._count = metrics, 0
        self._blocks = [metrics._statistics() for _ in range(BLOCKS)]

    @torch.no_grad()
    def update(self, signals: Float[Tensor, "b *shape"], features: Mapping[str, Tensor]) -> None:
        del features
        found = seen(self._metrics.network, self._metrics._modality.stills(signals))
        for of_frames, changes in zip(*found, strict=True):
            # All frames of a clip in one block: they are no independent samples.
            self._blocks[self._count % BLOCKS].add(of_frames, changes)
            self._count += 1

    def compute(self) -> dict[str, Resampled]:
        return self._metrics.compare([block for block in self._blocks if block.changes])
