"""Train a feature network on labelled images: a classifier whose penultimate layer serves as features.

Run ``python benchmarks/train_image_features.py --out DIR``; ``--features DIR`` of ``unistep evaluate`` then takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from feature_training import ClassifierRecipe, command, fit_classifier, timed
from jaxtyping import Int
from torch import Tensor

from unistep.evaluation.feature_nets import ConvFeatures
from unistep.evaluation.reference import signals
from unistep.evaluation.saved_features import save_features

if TYPE_CHECKING:
    from unistep.data import Dataset

_WITHOUT_PARTS = ("folder", "npz")

Indices = Int[np.ndarray, " n"]

DEFAULT_RECIPE = ClassifierRecipe()
"""That of the shipped network."""


def fit(data: Dataset, indices: Indices, recipe: ClassifierRecipe) -> ConvFeatures:
    """Train a classifier on some items of a labelled data set; flips are the only augmentation.

    Raises:
        ValueError: If the images are not square, or have fewer than two classes.
    """
    channels, height, width = data.shape
    labels = _all_labels(data)
    classes = int(labels.max()) + 1
    if height != width:
        raise ValueError(f"a feature network takes square images, got {height}x{width}; prepare the data with a crop")
    if classes < 2:
        raise ValueError("a feature network is trained on labels, and the data has fewer than two classes")

    def build() -> ConvFeatures:
        network = ConvFeatures(
            in_channels=channels, size=height, channels=recipe.channels, dim=recipe.dim, classes=classes
        )
        return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def loss(network: ConvFeatures, index: Int[np.ndarray, " b"], generator: torch.Generator) -> Tensor:
        x = signals(data, indices[index].tolist())
        flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        x = torch.where(flip, x.flip(-1), x).contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(np.asarray(labels[indices[index]], dtype=np.int64))
        return torch.nn.functional.cross_entropy(network.logits(x), y)

    network = fit_classifier(build, loss, len(indices), recipe)
    return network.eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def accuracy(network: ConvFeatures, data: Dataset, indices: Indices) -> float:
    """Share of images to which the classifier gives the right class."""
    labels, right = _all_labels(data), 0
    for i in range(0, len(indices), 500):
        part = indices[i : i + 500]
        predicted = network.logits(signals(data, part.tolist())).argmax(1).numpy()
        right += int((predicted == labels[part]).sum())
    return right / len(indices)


_CARD = """# Feature network `{name}`, version {version}

A small convolutional classifier of `{data}`. Unistep computes Fréchet distance, KID, precision and recall on its
penultimate layer, {dim} numbers for each image. Compare such figures with each other and with nothing else, Inception
FIDs least of all.

| | |
|---|---|
| data | `{data}`, {train_images:,} training images (fingerprint `{fingerprint}`) |
| test accuracy | {accuracy:.2%} on the {test_images:,} test images, with the half-precision weights that are shipped |
| training accuracy | {train_accuracy:.2%} |
| architecture | {parameters:,} parameters: {stages} stages of two 3x3 convolutions, widths {widths}; \
one linear layer to {dim} |
| recipe | {epochs} epochs, batch {batch_size}, AdamW {learning_rate:g} one-cycle, weight decay {weight_decay:g}, \
flips, seed {seed} |
| time | {cpu_seconds:.0f} s of CPU, {seconds:.0f} s elapsed |
| hardware | {hardware}; PyTorch {torch} |

Made with `python benchmarks/train_image_features.py --data {data} --out DIR`.
"""


def train_features(
    data: str = "fashion-mnist",
    out: Path = Path("features"),
    *,
    name: str = "fashion",
    version: str = "1",
    recipe: ClassifierRecipe = DEFAULT_RECIPE,
) -> dict[str, object]:
    """Train a feature network on the training split of ``data``, measure it on the test split, and save it.

    Of data without parts, a tenth is held out to measure with.

    Args:
        data: A source of :mod:`unistep.data` that has labels.
        out: Directory to write.
        name: Name of the network.
        version: Its version.
        recipe: How to build and train it; about five minutes of one core as it stands.

    Returns:
        What was recorded: accuracy, recipe, hardware, time.

    Raises:
        ValueError: If the data has no labels, or its images are not square.
    """
    from unistep.data import DataConfig, prepare

    train = prepare(DataConfig(source=data, split="train"))
    order = np.arange(len(train))
    if data.partition(":")[0] in _WITHOUT_PARTS:
        test, held_out = train, _tenth(len(train), recipe.seed)
        order = np.setdiff1d(order, held_out)
    else:
        test = prepare(DataConfig(source=data, split="test"))
        held_out = np.arange(len(test))
    network, cost = timed(lambda: fit(train, order, recipe))
    facts: dict[str, object] = {
        "data": data,
        "fingerprint": train.fingerprint,
        "train_images": len(order),
        "test_images": len(held_out),
        "accuracy": accuracy(network, test, held_out),
        "train_accuracy": accuracy(network, train, order),
        "recipe": asdict(recipe),
        **cost,
    }
    save_features(network, out, name=name, version=version, facts=facts, card=write_card(name, version, facts))
    return facts


def _all_labels(data: Dataset) -> Indices:
    if data.labels is None or (data.labels < 0).any():
        raise ValueError(f"a feature network is trained on labels, and {data.source} lacks some; use class sub-folders")
    return data.labels


def _tenth(count: int, seed: int) -> Indices:
    """A tenth of the items, chosen at random, to measure with."""
    return np.sort(np.random.default_rng(seed).permutation(count)[: max(count // 10, 1)])


def write_card(name: str, version: str, facts: Mapping[str, Any]) -> str:
    """The card of a feature network, from what was recorded about it."""
    recipe = facts["recipe"]
    widths = ", ".join(map(str, recipe["channels"]))
    return _CARD.format(name=name, version=version, widths=widths, stages=len(recipe["channels"]), **recipe, **facts)


if __name__ == "__main__":
    command(train_features)
