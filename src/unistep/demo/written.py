"""The opening of the demo: images of what texts say, each in one network call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import TextField
from unistep.generation.generator import Generator
from unistep.generation.saving import provenance_of
from unistep.provenance import Provenance

TEXTS = (
    "woman firefighter, medium-dark skin tone",
    "man mechanic, light skin tone",
    "couple with heart, woman, man, light skin tone",
    "Santa Claus, light skin tone",
    "men holding hands, light skin tone, dark skin tone",
    "grinning face",
)
"""What the demo asks for."""
EACH = 4
"""Samples of each text."""
REPEATS = 5
"""Runs whose median time is stated."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """Samples of texts, and what they took."""

    texts: tuple[str, ...]
    """The texts."""
    pictures: Float[Tensor, "texts each c h w"]
    """Samples in [-1, 1]."""
    seconds: float
    """Time of one sample by itself, after a warm-up, with its text encoded already."""
    made_by: Provenance
    """The model."""


def write(generator: Generator, seed: int, texts: Sequence[str] = TEXTS, each: int = EACH) -> Written:
    """Samples of each text from the same seeds.

    Args:
        generator: A one-step model with a field of texts.
        seed: Seed of the first sample of each text.
        texts: What the samples should be.
        each: Samples of each.

    Raises:
        ValueError: If the model takes no text, or its encoder is not installed.
    """
    name = next((name for name, spec in generator.config.fields.items() if isinstance(spec, TextField)), None)
    if name is None:
        raise ValueError(f"{generator.name} takes no text; give a model that does, such as emoji")
    field = generator.config.fields[name]
    vectors = [field.parse(name, text, 1).tensors for text in texts]
    known: list[dict[str, Any]] = [{name: found["tokens"][0][found["mask"][0]]} for found in vectors]
    pictures = [generator.sample(each, seed=seed, **text) for text in known]
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        generator.sample(1, seed=seed, **known[0])
        times.append(time.perf_counter() - began)
    return Written(
        texts=tuple(texts),
        pictures=torch.stack(pictures),
        seconds=statistics.median(times),
        made_by=provenance_of(generator),
    )
