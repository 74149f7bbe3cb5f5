"""The same labels and the same noise through a one-step model and through its teacher, with measured times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unistep.core.condition import LabelField
from unistep.core.seeding import ItemGenerators, normal
from unistep.generation.generator import Generator
from unistep.generation.saving import provenance_of
from unistep.provenance import Provenance

REPEATS = 5
"""Runs of a fast sampler whose median time is stated."""
STEPS = (1, 2, 4)
"""Steps of the walk."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Samples, and what they took."""

    pictures: Tensor
    """Samples in [-1, 1], shape ``[n, *shape]``."""
    steps: int
    """Sampling steps."""
    calls: int
    """Network calls for each sample."""
    seconds: float
    """Time for all of them, after a warm-up and without loading."""
    made_by: Provenance
    """The model."""


def class_names(generator: Generator) -> tuple[str, ...]:
    """Names, else numbers, of the classes of the model's ``label``; empty for an unconditional one."""
    spec = generator.config.fields.get("label")
    return spec.names or tuple(map(str, range(spec.size))) if isinstance(spec, LabelField) else ()


def labels_for(generator: Generator, count: int) -> dict[str, Any]:
    """Each class in turn, as the model's condition; empty for an unconditional model."""
    classes = len(class_names(generator))
    return {"label": [i % classes for i in range(count)]} if classes else {}


def shoot(generator: Generator, count: int, steps: int, seed: int, *, repeats: int = REPEATS) -> Shot:
    """Sample each class in turn as one batch, and time it.

    Args:
        generator: The model.
        count: Number of samples.
        steps: Sampling steps.
        seed: Seed of the first sample.
        repeats: Runs; the median of their times is stated.
    """
    given = labels_for(generator, count)
    # The first call of a network at a size is slower than all others; one step is enough to have made it.
    generator.sample(count, steps=1, seed=seed, batch_size=count, **given)
    times: list[float] = []
    pictures = torch.empty(0)
    for _ in range(repeats):
        began = time.perf_counter()
        pictures = generator.sample(count, steps=steps, seed=seed, batch_size=count, **given)
        times.append(time.perf_counter() - began)
    return Shot(
        pictures=pictures,
        steps=steps,
        calls=generator.network_calls(steps),
        seconds=statistics.median(times),
        made_by=provenance_of(generator),
    )


def walk(generator: Generator, count: int, seed: int, steps: Sequence[int] = STEPS) -> tuple[Tensor, list[Shot]]:
    """The noise that samples start from, at half its contrast, and the samples after each number of steps."""
    noise = normal((count, *generator.shape), ItemGenerators(range(seed, seed + count)))
    return (noise / 2).clamp(-1, 1), [shoot(generator, count, n, seed) for n in steps]
