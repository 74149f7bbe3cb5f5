"""Train the feature network of ``moving-fashion``: what the two items of a clip are, and how they move.

Run ``python benchmarks/train_clip_features.py --out DIR``; ``--features DIR`` of ``unistep evaluate`` then takes it.
``train_view_features.py --data moving-fashion`` makes one of the same clips that learns without labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from feature_training import ClassifierRecipe, command, fit_classifier, timed
from jaxtyping import Float, Int
from torch import Tensor

from unistep.data.cache import cache_root
from unistep.data.sources.fashion import FashionMnist
from unistep.data.sources.moving_fashion import moving_items
from unistep.evaluation.clip_features import ClipFeatures, best_order
from unistep.evaluation.conv_trunk import channels_last
from unistep.evaluation.reference import signals
from unistep.evaluation.saved_features import pack, save_features
from unistep.precision import Precision, autocast

if TYPE_CHECKING:
    from unistep.data import Dataset

UNIT = 5.0
"""Pixels of the scene per frame that count as 1 in the loss: the largest speed."""
DEFAULT_RECIPE = ClassifierRecipe(channels=(16, 32, 48), dim=64, epochs=16)
"""That of the shipped network."""

Known = tuple[Int[Tensor, "n 2"], Float[Tensor, "n 2 2"]]
"""Classes and velocities of the two items of each clip."""


def known(split: str, count: int) -> Known:
    """What the clips of a split hold, by their numbers."""
    classes = FashionMnist(split=split, downloads=cache_root(None) / "downloads").labels()
    items = [moving_items(len(classes), split, number) for number in range(count)]
    return (
        torch.tensor([[int(classes[each.item]) for each in clip] for clip in items]),
        torch.tensor([[each.velocity for each in clip] for clip in items]) / UNIT,
    )


def fit(data: Dataset, labels: Known, recipe: ClassifierRecipe, precision: Precision) -> ClipFeatures:
    """Train on the clips of a split; left and right are exchanged in half of them."""
    channels, frames, size, _ = data.shape
    classes, moved = labels

    def build() -> ClipFeatures:
        return channels_last(
            ClipFeatures(
                in_channels=channels,
                frames=frames,
                size=size,
                channels=recipe.channels,
                dim=recipe.dim,
                items=2,
                classes=int(classes.max()) + 1,
            )
        )

    def loss(network: ClipFeatures, index: Int[np.ndarray, " b"], generator: torch.Generator) -> Tensor:
        x, at = signals(data, index.tolist()), torch.from_numpy(index)
        flip = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(flip.view(-1, 1, 1, 1, 1), x.flip(-1), x)
        sign = torch.stack([torch.ones(len(x)), 1 - 2.0 * flip], dim=1)[:, None]
        with autocast(precision, x.device):
            features = network(x)
        return best_order(*network.said(features.float()), classes[at], moved[at] * sign)[0].mean()

    return fit_classifier(build, loss, len(classes), recipe).eval()


@torch.no_grad()
def measure(network: ClipFeatures, data: Dataset, labels: Known) -> dict[str, float]:
    """Share of items that are named rightly, and the root mean square error of velocities in pixels of the scene."""
    classes, moved = labels
    right, error = [], []
    for at in torch.arange(len(classes)).split(250):
        scores, velocities = network.said(network(signals(data, at.tolist())))
        _, order = best_order(scores, velocities, classes[at], moved[at])
        named = scores.argmax(dim=-1).gather(1, order)
        right.append((named == classes[at]).float())
        there = velocities.gather(1, order[..., None].expand(-1, -1, 2))
        error.append((there - moved[at]).square())
    return {
        "accuracy": float(torch.cat(right).mean()),
        "velocity_error": UNIT * float(torch.cat(error).sum(dim=-1).mean().sqrt()),
    }


_CARD = """# Feature network `{name}`, version {version}

A small network over time and space that says what the two items of a clip of `{data}` are and how fast they move.
Unistep computes Fréchet distance, KID, precision and recall on its penultimate layer, {dim} numbers for each clip.
Compare such figures with each other and with nothing else.

| | |
|---|---|
| data | `{data}`, {train_clips:,} training clips of {frames} frames of {size} x {size} pixels \
(fingerprint `{fingerprint}`) |
| items named rightly | {accuracy:.2%} in the {test_clips:,} test clips, of other items ({train_accuracy:.2%} in \
training), with the weights that are shipped |
| error of velocities | {velocity_error:.2f} pixels a frame in the test clips, whose items move by 2 to 5 in a scene \
of 64 (root mean square distance; {train_velocity_error:.2f} in training) |
| architecture | {parameters:,} parameters in {bits} bits: {stages} stages of two 3x3x3 convolutions, widths {widths}; \
one linear layer to {dim} |
| recipe | {epochs} epochs, batch {batch_size}, AdamW {learning_rate:g} one-cycle, weight decay {weight_decay:g}, \
flips, {precision}, seed {seed}; the loss is that of the items in the better of both orders |
| time | {cpu_seconds:.0f} s of CPU, {seconds:.0f} s elapsed |
| hardware | {hardware}; PyTorch {torch} |

Made with `python benchmarks/train_clip_features.py --out DIR`.
"""


def train_clip_features(
    out: Path = Path("features"),
    *,
    name: str = "moving-fashion",
    version: str = "1",
    precision: Precision = "bf16",
    bits: int = 8,
    limit: int | None = None,
    recipe: ClassifierRecipe = DEFAULT_RECIPE,
) -> dict[str, object]:
    """Train on the training clips, measure on those of the test split, and save the network.

    Args:
        out: Directory to write.
        name: Name of the network.
        version: Its version.
        precision: Arithmetic of the convolutions: bf16, or fp32 where a processor has no units for it.
        bits: Mean number of bits that a weight is stored in: 4 to 8.
        limit: Clips of each split; all without.
        recipe: How to build and train it.

    Returns:
        What was recorded: accuracy, recipe, hardware, time.

    Raises:
        ValueError: If the data cannot be had.
    """
    from unistep.data import data_config, prepare

    parts = {split: prepare(data_config("moving-fashion", split=split)) for split in ("train", "test")}
    counts = {split: min(len(data), limit or len(data)) for split, data in parts.items()}
    labels = {split: known(split, count) for split, count in counts.items()}
    network, cost = timed(lambda: fit(parts["train"], labels["train"], recipe, precision), half=False)
    packed = pack(network, bits)
    test, train = (measure(network, parts[split], labels[split]) for split in ("test", "train"))
    facts: dict[str, object] = {
        "data": "moving-fashion",
        "fingerprint": parts["train"].fingerprint,
        "train_clips": counts["train"],
        "test_clips": counts["test"],
        "frames": parts["train"].shape[1],
        **test,
        **{f"train_{key}": value for key, value in train.items()},
        "recipe": asdict(recipe),
        "precision": precision,
        "bits": bits,
        **cost,
    }
    card = write_card(name, version, facts | {"size": parts["train"].shape[-1]})
    save_features(network, out, name=name, version=version, facts=facts, card=card, packed=packed)
    return facts


def write_card(name: str, version: str, facts: Mapping[str, Any]) -> str:
    """The card of the network, from what was recorded about it."""
    recipe = facts["recipe"]
    widths = ", ".join(map(str, recipe["channels"]))
    return _CARD.format(name=name, version=version, widths=widths, stages=len(recipe["channels"]), **recipe, **facts)


if __name__ == "__main__":
    command(train_clip_features)
