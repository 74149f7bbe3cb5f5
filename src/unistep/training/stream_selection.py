"""Selecting the weights of a model of streams: by the next chunks that it makes after real pasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from unistep.core.condition import Condition, as_it_is
from unistep.data import Dataset
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.objectives.base import Objective
from unistep.objectives.fd import one_jump
from unistep.objectives.frechet import Representation
from unistep.training.examples import Examples
from unistep.training.stream_features import ITEMS, stream_representations

_AT_ONCE = 100


def spread(data: Dataset, examples: Examples, count: int, device: torch.device) -> Iterator[tuple[Tensor, Condition]]:
    """Real chunks with their conditions, their past shown as in a stream: spread over the data, always the same."""
    shown, generator = replace(examples, as_in_streams=True), torch.Generator(device).manual_seed(0)
    chosen = [i * len(data) // count for i in range(count)]
    for start in range(0, count, _AT_ONCE):
        stored, condition = data.batch(chosen[start : start + _AT_ONCE])
        yield shown(stored, as_it_is(condition), device, generator)


def stream_distance(
    name: str, data: Dataset, examples: Examples, objective: Objective, samples: int, device: torch.device
) -> tuple[Callable[[], float], str]:
    """The Fréchet distance of a one-step student's next chunks, each with the end of its past, from real ones.

    The pasts are those that the objective trains on: real ones, or in part the ends of the student's own streams.

    A stream that began from nothing would be no measure: what a model goes on with is what it is for.

    Args:
        name: Feature network.
        data: The run's data.
        examples: Turns its items into chunks and their pasts.
        objective: Around the student.
        samples: Chunks.
        device: Where it computes.

    Returns:
        The distance as a function of the weights that the student has, and what it is measured on.

    Raises:
        ValueError: If there is no such network, or it takes other signals.
    """
    count, noise, drawn = min(samples, len(data)), torch.Generator(device), torch.Generator(device)
    real = spread(data, examples, min(ITEMS, len(data)), device)
    made: Representation = stream_representations([name], data.modality, examples, real, {})[-1]
    known = Moments.known(made.mean, made.covariance, count)

    @torch.no_grad()
    def distance() -> float:
        noise.manual_seed(1)
        drawn.manual_seed(2)
        found = Moments(len(made.mean))
        for x0, condition in spread(data, examples, count, device):
            condition = objective.shown(condition, drawn)
            x = one_jump(objective.student, torch.randn(x0.shape, generator=noise, device=device), condition)
            found.update(made.features(x.float(), condition))  # type: ignore[call-arg]
        return frechet_distance(known, found)

    return distance, made.name
