"""What is measured of each rollout of a world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.intervals import FrechetReference
from unistep.evaluation.inverse_dynamics import InverseDynamics, classes_of
from unistep.evaluation.metrics import Moments
from unistep.evaluation.picture_metrics import psnr, ssim
from unistep.evaluation.real_play import RealPlay
from unistep.evaluation.rollouts import Seen, real
from unistep.evaluation.world_report import ActionFigures, Role, RolloutFigures

BLOCK = 50
"""Frames of a block, of all streams together, that a Fréchet distance is of."""


def blocks_of(length: int) -> tuple[tuple[int, int], ...]:
    """First and last frame of each block, from 1; an end of less than half a block belongs to the block before."""
    count = max(1, (length + BLOCK // 2) // BLOCK)
    ends = [BLOCK * i for i in range(1, count)] + [length]
    return tuple((first + 1, last) for first, last in zip([0, *ends[:-1]], ends, strict=True))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FrameFeatures:
    """A feature network of single frames, and what real frames look like to it."""

    network: FeatureNetwork
    """The network."""
    reference: FrechetReference
    """The Gaussian of real frames."""
    unrelated: float
    """Mean distance between two real frames that have nothing to do with each other."""

    @classmethod
    def of(cls, network: FeatureNetwork, features: Float[Tensor, "n dim"]) -> FrameFeatures:
        """From the features of real frames of many moments."""
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
        apart = (features - features[order]).norm(dim=1)
        unrelated = float(apart[order != torch.arange(len(order))].mean())
        return cls(network=network, reference=FrechetReference(Moments.of(features)), unrelated=unrelated)


@final
class WorldMetrics:
    """Metrics of rollouts beside one set of recordings.

    Args:
        play: The recordings.
        networks: Feature networks of single frames.
        dynamics: Recognises actions.
    """

    def __init__(self, play: RealPlay, networks: Sequence[FrameFeatures], dynamics: InverseDynamics) -> None:
        self._play, self._networks, self._dynamics = play, networks, dynamics
        self._classes = classes_of(dynamics.field, play.actions[:, play.before :]).transpose(0, 1)  # [frames, n, size]
        self._true: list[list[Tensor]] = [[] for _ in networks]
        self.blocks = blocks_of(play.length)
        """First and last frame of each block."""

    @property
    def guess(self) -> float:
        """Accuracy of always naming the commonest class of each control."""
        shares = torch.nn.functional.one_hot(self._classes.flatten(0, 1), 3).double().mean(dim=0)
        return float(shares.max(dim=1).values.mean())

    def real(self, advance: Callable[[int], None] | None = None) -> RolloutFigures:
        """The figures of the recordings themselves, which come first: the others are compared with their features."""
        return self.measure("real", "real", real(self._play), advance)

    @torch.no_grad()
    def measure(
        self, name: str, role: Role, rollout: Seen, advance: Callable[[int], None] | None = None
    ) -> RolloutFigures:
        """The figures of a rollout.

        Args:
            name: What made its frames.
            role: What it is.
            rollout: Frames with the two before each.
            advance: Called with the number of frames that were just made and measured.
        """
        curves: list[list[float]] = [[] for _ in range(2 + len(self._networks))]
        features: list[list[Tensor]] = [[] for _ in self._networks]
        named: list[Tensor] = []
        for number, seen in enumerate(rollout):
            frames, at = seen[:, :, -1:], self._play.before + number
            true = self._play.clip(at, at + 1)
            if role != "real":
                curves[0].append(float(psnr(frames.flatten(1, 2), true.flatten(1, 2)).mean()))
                curves[1].append(float(ssim(frames.flatten(1, 2), true.flatten(1, 2)).mean()))
            for i, each in enumerate(self._networks):
                found = each.network(frames)
                features[i].append(found)
                if role != "real":
                    apart = (found - self._true[i][number]).norm(dim=1)
                    curves[2 + i].append(float(apart.mean()) / each.unrelated)
            named.append(self._dynamics.classes(seen))
            if advance:
                advance(len(frames))
        if role == "real":
            self._true = features
        names = [each.network.name for each in self._networks]
        distances = [tuple(curve) for curve in curves[2:]]
        return RolloutFigures(
            name=name,
            role=role,
            psnr=tuple(curves[0]),
            ssim=tuple(curves[1]),
            distance={} if role == "real" else dict(zip(names, distances, strict=True)),
            frechet={
                each.network.name: tuple(self._frechet(each, of_frames))
                for each, of_frames in zip(self._networks, features, strict=True)
            },
            actions=self._actions(torch.stack(named)),
        )

    def _frechet(self, each: FrameFeatures, features: Sequence[Tensor]) -> Iterator[float]:
        for first, last in self.blocks:
            moments = Moments.of(torch.cat(list(features[first - 1 : last])))
            yield each.reference.distance(moments.mean, moments.covariance)

    def _actions(self, named: Int[Tensor, "frames n size"]) -> ActionFigures:
        right, controls = (named == self._classes).double(), {}
        for i, control in enumerate(self._dynamics.field.names):
            own, hit = self._classes[..., i], right[..., i]
            controls[control] = float(torch.stack([hit[own == k].mean() for k in own.unique()]).mean())
        return ActionFigures(
            accuracy=float(right.mean()),
            balanced=sum(controls.values()) / len(controls),
            controls=controls,
            blocks=tuple(float(right[first - 1 : last].mean()) for first, last in self.blocks),
        )
