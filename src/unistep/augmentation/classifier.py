"""A small classifier of any signals, which is what augmentation is measured with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unistep.evaluation.conv_trunk import NORMS, ConvTrunk, channels_last
from unistep.modalities.base import Modality
from unistep.precision import Precision, autocast

_WARM = 0.1  # share of the steps over which the rate rises


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """How classifiers are trained: all of a comparison alike."""

    steps: int = 600
    """Optimiser steps, the same for every training set."""
    batch_size: int = 64
    """Items of a step."""
    learning_rate: float = 2e-3
    """Largest rate of AdamW; it falls along a cosine."""
    weight_decay: float = 0.05
    """Weight decay."""
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of the stages."""
    precision: Precision = "fp32"
    """Arithmetic."""


@final
class Classifier(nn.Module):
    """Convolutions over the map that the modality offers, and one linear layer.

    Args:
        modality: What the signals are.
        classes: Number of classes.
        widths: Channels of the stages.
    """

    def __init__(self, modality: Modality, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.map = modality.feature_map()
        channels, *sizes = self.map(torch.zeros((1, *modality.shape))).shape[1:]
        self.norm = NORMS[len(sizes)](channels)
        self.trunk = channels_last(ConvTrunk(channels, tuple(sizes), widths))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.trunk.size, classes))

    def forward(self, x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b classes"]:
        return self.head(self.trunk(self.norm(self.map(x))).flatten(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Items to train on."""

    x: Float[Tensor, "n *shape"]
    """The signals."""
    label: Int[Tensor, " n"]
    """Their classes, from 0."""


def train_classifier(
    pool: Pool, modality: Modality, classes: int, options: ClassifierOptions, *, seed: int, augment: bool
) -> Classifier:
    """A classifier after a number of steps.

    Args:
        pool: What it is trained on, each item equally often.
        modality: What the signals are.
        classes: Number of classes.
        options: How.
        seed: Of the first weights, of the order, and of the changes.
        augment: Whether each item is changed at random each time, as :meth:`Modality.random_view` does it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(modality, classes, options.widths)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(model.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        order = torch.empty(0, dtype=torch.long)
        for step in range(options.steps):
            while len(order) < options.batch_size:
                order = torch.cat([order, torch.randperm(len(pool.x), generator=generator)])
            rows, order = order[: options.batch_size], order[options.batch_size :]
            x = pool.x[rows]
            if augment:
                x = modality.random_view(x, generator)
            warm = max(1, round(_WARM * options.steps))
            fall = 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, options.steps - warm)))
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * min((step + 1) / warm, fall)
            with autocast(options.precision, torch.device("cpu")):
                loss = nn.functional.cross_entropy(model(x).float(), pool.label[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.inference_mode()
def is_right(model: Classifier, test: Pool, options: ClassifierOptions) -> Int[Tensor, " n"]:
    """Whether each item of a test set is classified rightly, 0 or 1."""
    found = []
    for start in range(0, len(test.x), 512):
        with autocast(options.precision, torch.device("cpu")):
            found.append(model(test.x[start : start + 512]).float().argmax(1))
    return (torch.cat(found) == test.label).long()
