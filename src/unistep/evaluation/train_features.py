"""Train a feature network on a labelled data set: a classifier whose penultimate layer later judges samples.

Run ``python -m unistep.evaluation.train_features --out DIR``; ``--features DIR`` of ``unistep evaluate`` then takes it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from unistep.evaluation.feature_nets import ConvFeatures
from unistep.evaluation.features import CONFIG_FORMAT
from unistep.evaluation.hardware import hardware
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.reference import to_float

if TYPE_CHECKING:
    from unistep.data import Dataset

_WITHOUT_PARTS = ("folder", "npz")

Network = TypeVar("Network", bound=nn.Module)
Images = UInt8[np.ndarray, "n c h w"]
Labels = Int[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe:
    """How a feature network is built and trained."""

    channels: tuple[int, ...] = (24, 48, 96)
    """Width of each stage; each halves the resolution."""
    dim: int = 96
    """Number of features."""
    epochs: int = 7
    """Passes over the training images."""
    batch_size: int = 128
    """Images per step."""
    learning_rate: float = 4e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    seed: int = 0
    """Seed of initial weights, data order and flips."""


DEFAULT_RECIPE = FeatureRecipe()
"""That of the shipped network."""


def fit(images: Images, labels: Labels, recipe: FeatureRecipe) -> ConvFeatures:
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
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = ConvFeatures(
            in_channels=channels, size=height, channels=recipe.channels, dim=recipe.dim, classes=classes
        )
        network.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        decayed = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        steps = recipe.epochs * (len(images) // recipe.batch_size)
        if steps < 1:
            raise ValueError(f"{len(images)} images are fewer than one batch of {recipe.batch_size}")
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps + 1)
        start = time.perf_counter()
        for step, (x, y) in enumerate(_batches(images, labels, recipe, generator)):
            loss = torch.nn.functional.cross_entropy(network.logits(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 100 == 0 or step == steps - 1:
                seconds = time.perf_counter() - start
                print(f"step {step + 1}/{steps}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)
    return network.eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _batches(
    images: Images, labels: Labels, recipe: FeatureRecipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator).numpy()
        for i in range(len(images) // recipe.batch_size):
            # Sorted indices read a memory map in one sweep; the order inside a batch does not matter.
            index = np.sort(order[i * recipe.batch_size : (i + 1) * recipe.batch_size])
            x = to_float(images[index])
            flip = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
            x = torch.where(flip, x.flip(-1), x).contiguous(memory_format=torch.channels_last)
            yield x, torch.from_numpy(np.asarray(labels[index], dtype=np.int64))


@torch.no_grad()
def accuracy(network: ConvFeatures, images: Images, labels: Labels) -> float:
    """Share of images that the classifier names rightly."""
    right = 0
    for i in range(0, len(images), 500):
        answer = network.logits(to_float(images[i : i + 500])).argmax(1).numpy()
        right += int((answer == labels[i : i + 500]).sum())
    return right / len(images)


def save_features(
    network: ConvFeatures | NoteFeatures,
    directory: Path,
    *,
    name: str,
    version: str,
    facts: Mapping[str, object],
    card: str,
) -> None:
    """Write ``config.json``, ``model.safetensors`` in half precision and the card ``README.md``.

    Args:
        network: The trained classifier.
        directory: Where to; made if need be.
        name: Name of the network.
        version: Its version.
        facts: What else to record: data, recipe, accuracy, hardware, time.
        card: Text of the card.
    """
    from safetensors.torch import save

    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    config = {"format": CONFIG_FORMAT, "name": name, "version": version, "architecture": network.architecture, **facts}
    (directory / "model.safetensors").write_bytes(save(weights))
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(card, encoding="utf-8")


def rounded_to_half(network: Network) -> Network:
    """The network with weights rounded as :func:`save_features` rounds them: what is measured is what is saved."""
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    return network


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
    recipe: FeatureRecipe = DEFAULT_RECIPE,
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
    images, labels = train.images, _all_labels(train)
    if data.partition(":")[0] in _WITHOUT_PARTS:
        images, labels, test_images, test_labels = _hold_out(images, labels, recipe.seed)
    else:
        test = prepare(DataConfig(source=data, split="test"))
        test_images, test_labels = test.images, _all_labels(test)
    start, cpu = time.perf_counter(), time.process_time()
    network = rounded_to_half(fit(images, labels, recipe))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    facts: dict[str, object] = {
        "data": data,
        "fingerprint": train.fingerprint,
        "train_images": len(images),
        "test_images": len(test_images),
        "accuracy": accuracy(network, test_images, test_labels),
        "train_accuracy": accuracy(network, images, labels),
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "hardware": hardware(),
        "torch": torch.__version__,
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


def main() -> None:
    """Command line of ``python -m unistep.evaluation.train_features``."""
    import tyro

    try:
        facts = tyro.cli(train_features, description=train_features.__doc__)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
