"""The sampler of a generator's map, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from unistep.core.condition import Condition
from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, GuidedDenoiser
from unistep.core.sampling import trace_gamma, trace_multistep
from unistep.core.seeding import ItemGenerators
from unistep.core.solvers import trace_ode
from unistep.generation.requests import Plan

if TYPE_CHECKING:
    from unistep.generation.generator import Generator


def trace(
    generator: Generator, noise: Tensor, plan: Plan, condition: Condition, items: ItemGenerators
) -> Iterator[Tensor]:
    """What a batch is after each sampling step.

    Args:
        generator: The model.
        noise: Standard normal noise, shape ``[b, *shape]``.
        plan: How the batch is sampled.
        condition: All of its conditions, as the network takes them.
        items: Source of further noise.
    """
    flow, config = generator.map, generator.config
    if isinstance(flow, ConsistencyModel):
        return trace_multistep(flow, noise, plan.grid, condition, generator=items)
    if isinstance(flow, FlowMap):
        return trace_gamma(flow, noise, plan.grid, condition, gamma=config.gamma, generator=items)
    assert isinstance(flow, Denoiser)
    teacher = flow if plan.guidance == 1 else GuidedDenoiser(flow, plan.guidance)
    return trace_ode(teacher, noise, plan.grid, condition, solver=plan.solver or config.solver)  # type: ignore[arg-type]
