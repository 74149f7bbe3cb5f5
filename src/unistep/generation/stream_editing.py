"""Editing streams: chunk after chunk, each conditioned on those before it as they were edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unistep.core.condition import Condition, Value, frame
from unistep.core.flowmap import AnyMap
from unistep.core.seeding import ItemGenerators
from unistep.editing.chunks import ChunkCoder, OfChunk
from unistep.editing.solvers import Problem, Settings, trace_edit
from unistep.generation.requests import Watch
from unistep.precision import autocast

if TYPE_CHECKING:
    from unistep.generation.generator import Generator
    from unistep.generation.session import StreamSession


def edit_chunks(
    generator: Generator,
    session: StreamSession,
    model: AnyMap,
    problem: Problem,
    seeds: Sequence[int],
    steps: int,
    settings: Settings,
    condition: Mapping[str, Value],
    watch: Watch,
) -> Tensor:
    """Solve a problem of whole signals chunk by chunk.

    A chunk of which everything is known costs no call of the model, and one of which nothing is known is sampled as in
    a stream. What lies ahead of a chunk is known to it only by the first guess that the problem begins from.

    Args:
        generator: A model that streams, whose codec can :meth:`~unistep.codecs.base.Codec.cut` signals.
        session: Its session for so many steps.
        model: Its map, or that with guidance.
        problem: What is to be done, on the model's device.
        seeds: One for each signal.
        steps: Calls of the model for each chunk.
        settings: Parameters.
        condition: What is given of the model's fields; the others are null where they would be drawn.
        watch: Looks at each step.

    Returns:
        Signals, on the model's device.
    """
    codec, config, device = generator.codec, generator.config, generator.device
    assert problem.beginning is not None  # make_task refuses tasks that begin from nothing
    chunks = codec.cut(problem.beginning)
    drawn = [name for name, spec in config.fields.items() if name not in condition and spec.default_text is None]
    given = {**condition, **{name: config.fields[name].null(len(seeds)) for name in drawn}}
    state = session.start(seeds)
    for number in range(len(chunks)):
        coder, known = ChunkCoder(codec, state.tail.to(device)), None
        if problem.constraint is not None:
            known = OfChunk(problem.constraint, codec, chunks, number)
        part = replace(problem, start=chunks[number], constraint=known, shown=None)

        def draw(
            noise: Tensor,
            seen: Condition,
            items: ItemGenerators,
            coder: ChunkCoder = coder,
            known: OfChunk | None = known,
            part: Problem = part,
        ) -> Tensor:
            if known is not None and known.everything:
                return coder.encode(watch.last_of([known.correct(known.start)] * steps))
            if known is not None and known.nothing:
                return watch.last_of([session.draw(noise, seen, items)] * steps)
            with autocast(generator.precision, device):
                trace = trace_edit(
                    model, coder, part, noise, steps, settings, seen,
                    sigma_data=config.sigma_data, sigma_min_trained=config.sigma_min_trained, generator=items,
                )  # fmt: skip
                x = watch.last_of(trace).float()
            if known is not None and not known.sigma.any():
                x = known.satisfied(x, codec.within_range)
            return coder.encode(x)

        state, signal = replace(session, draw=draw).step(state, frame(given, number))
        chunks[number] = signal.to(device)
    return codec.join(chunks)


def chunks_of(generator: Generator, shape: Sequence[int]) -> int:
    """How many chunks signals of a shape are.

    Args:
        generator: The model; one of whole signals makes them in one.
        shape: Shape of one signal.

    Raises:
        ValueError: If signals of the model cannot be edited chunk by chunk.
    """
    if generator.config.context is None:
        return 1
    return len(generator.codec.cut(torch.zeros(1, *shape)))
