"""Train a feature network on a labelled data set: a classifier whose penultimate layer later judges samples.

Run ``python -m unistep.evaluation.train_features --out DIR``; ``--features DIR`` of ``unistep evaluate`` then takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from unistep.evaluation.classifier import ClassifierRecipe, command, fit_classifier, save_features, timed
from unistep.evaluation.feature_nets import ConvFeatures
from unistep.evaluation.reference import to_float

if TYPE_CHECKING:
    from unistep.data import Dataset

_WITHOUT_PARTS = ("folder", "npz")

Images = UInt8[np.ndarray, "n c h w"]
Labels = Int[np.ndarray, " n"]

DEFAULT_RECIPE = ClassifierRecipe()
"""That of the shipped network."""


def fit(images: Images, labels: Labels, recipe: ClassifierRecipe) -> ConvFeatures:
    """Train a classifier on bytes ``[n, c, h, w]`` and their labels ``[n]``; flips are the only augmentation.

    Raises:
        ValueError: If the images are not square, or have fewer than two classes.
    """
    _, channels, height, width = images.shape
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
        x = to_float(images[index])
        flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
        x = torch.where(flip, x.flip(-1), x).contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(np.asarray(labels[index], dtype=np.int64))
        return torch.nn.functional.cross_entropy(network.logits(x), y)

    network = fit_classifier(build, loss, len(images), recipe)
    return network.eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


@torch.no_grad()
def accuracy(network: ConvFeatures, images: Images, labels: Labels) -> float:
    """Share of images that the classifier names rightly."""
    right = 0
    for i in range(0, len(images), 500):
        answer = network.logits(to_float(images[i : i + 500])).argmax(1).numpy()
        right += int((answer == labels[i : i + 500]).sum())
    return right / len(images)


_CARD = """# Feature network `{name}`, version {version}

A small convolutional classifier of `{data}`. Its penultimate layer ({dim} numbers for each image) is what Unistep's
Fréchet distance, KID, precision and recall are taken on. Figures taken on it can be compared with each other and with
nothing else, Inception FIDs least of all.

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

Made with `python -m unistep.evaluation.train_features --data {data} --out DIR`.
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
    images, labels = train.values, _all_labels(train)
    if data.partition(":")[0] in _WITHOUT_PARTS:
        images, labels, test_images, test_labels = _hold_out(images, labels, recipe.seed)
    else:
        test = prepare(DataConfig(source=data, split="test"))
        test_images, test_labels = test.values, _all_labels(test)
    network, cost = timed(lambda: fit(images, labels, recipe))
    facts: dict[str, object] = {
        "data": data,
        "fingerprint": train.fingerprint,
        "train_images": len(images),
        "test_images": len(test_images),
        "accuracy": accuracy(network, test_images, test_labels),
        "train_accuracy": accuracy(network, images, labels),
        "recipe": asdict(recipe),
        **cost,
    }
    save_features(network, out, name=name, version=version, facts=facts, card=write_card(name, version, facts))
    return facts


def _all_labels(data: Dataset) -> Labels:
    if data.labels is None or (data.labels < 0).any():
        raise ValueError(f"a feature network is trained on labels, and {data.source} lacks some; use class sub-folders")
    return data.labels


def _hold_out(images: Images, labels: Labels, seed: int) -> tuple[Images, Labels, Images, Labels]:
    """Nine tenths to train on and one tenth to measure with, picked at random."""
    order = np.random.default_rng(seed).permutation(len(images))
    test, train = np.sort(order[: max(len(images) // 10, 1)]), np.sort(order[max(len(images) // 10, 1) :])
    return images[train], labels[train], images[test], labels[test]


def write_card(name: str, version: str, facts: Mapping[str, Any]) -> str:
    """The card of a feature network, from what was recorded about it."""
    recipe = facts["recipe"]
    widths = ", ".join(map(str, recipe["channels"]))
    return _CARD.format(name=name, version=version, widths=widths, stages=len(recipe["channels"]), **recipe, **facts)


if __name__ == "__main__":
    command(train_features)
