"""Training small classifiers whose penultimate layer serves as features."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from unistep.evaluation.clip_features import ClipFeatures
from unistep.evaluation.feature_nets import ConvFeatures
from unistep.evaluation.hardware import hardware
from unistep.evaluation.note_features import NoteFeatures
from unistep.evaluation.saved_features import rounded_to_half

Network = TypeVar("Network", ConvFeatures, NoteFeatures, ClipFeatures)


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """How a feature network is built and trained."""

    channels: tuple[int, ...] = (24, 48, 96)
    """Width of each stage; each halves the resolution."""
    dim: int = 96
    """Number of features."""
    epochs: int = 7
    """Passes over the training data."""
    batch_size: int = 128
    """Examples per step."""
    learning_rate: float = 4e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 0.02
    """AdamW's weight decay."""
    seed: int = 0
    """Seed of initial weights, data order and augmentation."""


def fit_classifier(
    build: Callable[[], Network],
    loss: Callable[[Network, Int[np.ndarray, " b"], torch.Generator], Tensor],
    count: int,
    recipe: ClassifierRecipe,
) -> Network:
    """Train by AdamW on a one-cycle schedule, printing the loss now and then.

    Args:
        build: Makes the network, with fresh weights from the global random state.
        loss: Mean loss of a network on the examples of these (sorted) positions, augmented by the generator.
        count: Number of training examples.
        recipe: How long and how fast.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: If the examples are fewer than one batch.
    """
    steps = recipe.epochs * (count // recipe.batch_size)
    if steps < 1:
        raise ValueError(f"{count} examples are fewer than one batch of {recipe.batch_size}")
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = build().train()
        optimizer = torch.optim.AdamW(_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps + 1)
        start = time.perf_counter()
        for step, index in enumerate(_batches(count, recipe, generator)):
            value = loss(network, index, generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            if step % 100 == 0 or step == steps - 1:
                seconds = time.perf_counter() - start
                print(f"step {step + 1}/{steps}  loss {value.item():.4f}  {seconds:.0f} s", flush=True)
    return network


def _batches(count: int, recipe: ClassifierRecipe, generator: torch.Generator) -> Iterator[Int[np.ndarray, " b"]]:
    for _ in range(recipe.epochs):
        order = torch.randperm(count, generator=generator).numpy()
        for i in range(count // recipe.batch_size):
            # Sorted positions read a memory map in one sweep; the order inside a batch does not matter.
            yield np.sort(order[i * recipe.batch_size : (i + 1) * recipe.batch_size])


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases and scales do not."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def timed(fit: Callable[[], Network], *, half: bool = True) -> tuple[Network, dict[str, object]]:
    """The trained network, rounded to half precision if it will be saved so, and size, time, hardware for the card."""
    start, cpu = time.perf_counter(), time.process_time()
    network = rounded_to_half(fit()) if half else fit()
    return network, {
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def command(train: Callable[..., dict[str, object]]) -> None:
    """Run a training function as a command: its arguments are options, what it recorded is printed."""
    import tyro

    try:
        facts = tyro.cli(train, description=train.__doc__)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(facts, indent=2))
