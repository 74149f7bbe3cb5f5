"""What a file computes for a seed, so that a browser can find out at its start whether it computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unistep.backends.call import tensors_of
from unistep.backends.onnx_runtime import session_of
from unistep.core.condition import encoded, parse_condition
from unistep.core.fields import asked
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.hub.onnx import arrays

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

SEED = 7
"""The seed of what is compared."""
CHUNKS = 3
"""Chunks of a stream that are compared: the first has no past, and errors of the others would add up."""


def example_condition(generator: Generator) -> dict[str, str]:
    """A condition with a text, where the model takes one; the seed draws the rest."""
    found = {}
    for name, spec in asked(generator.config.fields).items():
        example = getattr(spec, "example", "")
        if example:
            found[name] = example
    return found


def first_results(generator: Generator, path: Path, shapes: Mapping[str, list[int]]) -> np.ndarray:
    """The first sample of a file for :data:`SEED`, or the first chunks of a stream, as one row of numbers.

    Args:
        generator: The model that it was made from.
        path: The file.
        shapes: Shapes of its inputs without the batch.
    """
    session = session_of(path, torch.get_num_threads())
    stream = generator.config.context is not None
    found = []
    state = {name: torch.zeros(1, *shapes[name]) for name in ("past", "tail") if name in shapes}
    given = parse_condition(generator.config.fields, example_condition(generator), 1)
    for number in range(CHUNKS if stream else 1):
        items = ItemGenerators([derived_seed("chunk", SEED, number) if stream else SEED])
        inputs = {"noise": normal((1, *shapes["noise"]), items)}
        if stream:
            context = normal((1, *shapes["context_noise"]), items)
            inputs |= {"context_noise": context, "number": torch.tensor([number]), **state}
        inputs |= _condition(generator, given, number)
        first, *after = session.run(None, arrays(inputs))
        found.append(first.ravel())
        state = {name: torch.from_numpy(value) for name, value in zip(state, after, strict=True)}
    return np.concatenate(found).astype(np.float32)


def _condition(generator: Generator, given: Mapping[str, Any], number: int) -> dict[str, torch.Tensor]:
    """The tensors of the condition of one chunk."""
    context = generator.config.context
    full = dict(given)
    for name, spec in generator.config.fields.items():
        if name not in full:
            changing = context is not None and name in context.changing
            key = (name, SEED, number) if changing else (name, SEED)
            full[name] = spec.draw(1, ItemGenerators([derived_seed(*key)]))
    return tensors_of(encoded(full, generator.codec.encode_reference))
