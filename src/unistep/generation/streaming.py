"""Streams of a generator: what :meth:`Generator.session` and :meth:`Generator.stream` do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unistep.core.condition import GUIDANCE, Condition, parse_condition
from unistep.core.seeding import ItemGenerators
from unistep.core.solvers import Solver
from unistep.generation.requests import Plan, Watch, check_seed, plan_of
from unistep.generation.session import ConditionSchedule, StreamSession, resolve_schedule
from unistep.generation.tracing import trace
from unistep.precision import autocast

if TYPE_CHECKING:
    from unistep.generation.generator import Generator


def session_of(generator: Generator, plan: Plan, watch: Watch | None = None) -> StreamSession:
    """What makes the next chunk of streams from their states.

    Args:
        generator: The model.
        plan: How each chunk is sampled.
        watch: Looks at each step.

    Raises:
        ValueError: For a model that does not stream.
    """
    context = generator.config.context
    if context is None:
        raise ValueError(f"{generator.name} makes samples by themselves, no stream; phrases does")

    def draw(noise: Tensor, condition: Condition, items: ItemGenerators) -> Tensor:
        with autocast(generator.precision, generator.device):
            return (watch or Watch(1)).last_of(trace(generator, noise, plan, condition, items))

    return StreamSession(
        codec=generator.codec,
        context=context,
        sigma_data=generator.config.sigma_data,
        fields=generator.config.fields,
        draw=draw,
        device=generator.device,
        read=generator.modality.load,
    )


def open_session(generator: Generator, steps: int | None, solver: Solver | None, guidance: Any) -> StreamSession:
    """What makes the next chunk of streams; see :meth:`Generator.session`."""
    if guidance is not None and GUIDANCE in generator.config.fields:
        raise ValueError(
            f"{generator.name} takes the guidance weight as a condition: give it to each step, as "
            f"session.step(state, {{{GUIDANCE!r}: {guidance}}}), got guidance {guidance} for the session"
        )
    return session_of(generator, plan_of(generator, steps, None, solver, guidance, {})[0])


def stream(
    generator: Generator,
    seed: int,
    steps: int | None,
    solver: Solver | None,
    guidance: Any,
    past: Tensor | None,
    condition: Mapping[str, ConditionSchedule],
) -> Iterator[Tensor]:
    """Chunk after chunk of one stream; see :meth:`Generator.stream`."""
    plan, given = plan_of(generator, steps, None, solver, guidance, condition)
    session = session_of(generator, plan)
    check_seed(seed, 1)
    fields = generator.config.fields
    varying = {name: one for name, one in given.items() if name not in fields or not fields[name].is_one(one)}
    schedules = {name: found for name, one in varying.items() if (found := resolve_schedule(one)) is not None}
    parse_condition(fields, dict.fromkeys(schedules, ()), 0)  # are there such fields?
    constant = {name: one for name, one in given.items() if name not in schedules}
    parsed = parse_condition(fields, constant, 1, generator.modality.load)
    before = past[None] if isinstance(past, Tensor) else past
    return (chunk[0] for chunk in session.chunks([int(seed)], parsed, schedules, before))
