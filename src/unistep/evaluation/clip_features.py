"""The feature network of clips of two moving items: it says what they are and how fast they move."""

from __future__ import annotations

import itertools
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unistep.evaluation.conv_trunk import ConvTrunk
from unistep.evaluation.features import StagedNetwork

KIND = "moving items"
"""What the architecture of a saved network of this kind says it is."""


@final
class ClipFeatures(StagedNetwork):
    """A small network over time and space whose penultimate layer serves as features.

    Stages of two convolutions over frames, rows and columns, then one linear layer from every place to ``dim``
    features. Its head has a row for each item of a clip, in any order: scores of its classes, and its velocity.

    Args:
        in_channels: Channels of the clips.
        frames: Their frames.
        size: Height and width.
        channels: Width of each stage.
        dim: Number of features.
        items: Items of a clip.
        classes: Their classes.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        frames: int,
        size: int,
        channels: tuple[int, ...],
        dim: int,
        items: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = (in_channels, frames, size, size)
        self.architecture: dict[str, Any] = {
            "kind": KIND,
            "in_channels": in_channels,
            "frames": frames,
            "size": size,
            "channels": list(channels),
            "dim": dim,
            "items": items,
            "classes": classes,
        }
        self.items, self.classes = items, classes
        self.trunk = ConvTrunk(in_channels, (frames, size, size), channels)
        self.project = nn.Linear(self.trunk.size, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(dim, items * (classes + 2))

    def forward(self, clips: Float[Tensor, "b c frames h w"]) -> Float[Tensor, "b dim"]:
        """Features of clips in [-1, 1]."""
        return nn.functional.silu(self.norm(self.project(self.trunk(clips).flatten(1))))

    def stages(self, signals: Float[Tensor, "b c frames h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps that leave the stages."""
        return self.trunk.stages(signals)

    def said(self, features: Float[Tensor, "b dim"]) -> tuple[Tensor, Tensor]:
        """Scores of classes ``[b, items, classes]`` and velocities ``[b, items, 2]`` of each item, in any order."""
        found = self.head(self.drop(features)).view(len(features), self.items, self.classes + 2)
        return found[..., : self.classes], found[..., self.classes :]


def best_order(
    scores: Float[Tensor, "b items classes"],
    velocities: Float[Tensor, "b items 2"],
    classes: Int[Tensor, "b items"],
    moved: Float[Tensor, "b items 2"],
) -> tuple[Float[Tensor, " b"], Int[Tensor, "b items"]]:
    r"""The loss of what was said of the items of clips, in the order in which it is least, and that order.

    .. math:: L = \min_\pi \tfrac1n \sum_i \big[ -\log p_{\pi(i)}(c_i) + \lVert v_{\pi(i)} - v_i \rVert^2 \big]

    Args:
        scores: Scores of classes for each row of the head.
        velocities: Velocities for each row.
        classes: Classes of the items.
        moved: Velocities of the items, in the same unit.

    Returns:
        The loss, and for each item the row of the head that stands for it.

    References:
        Yu et al. 2017, "Permutation invariant training of deep models for speaker-independent multi-talker speech
        separation", arXiv 1607.00325, section 3, of labels.
    """
    count = scores.shape[1]
    logarithms = scores.log_softmax(dim=-1)
    orders = torch.tensor(list(itertools.permutations(range(count))), device=scores.device)
    losses = []
    for order in orders:
        named = logarithms[:, order].gather(2, classes[..., None])[..., 0]
        apart = (velocities[:, order] - moved).square().sum(dim=-1)
        losses.append((apart - named).mean(dim=1))
    least = torch.stack(losses, dim=1).min(dim=1)
    return least.values, orders[least.indices]
