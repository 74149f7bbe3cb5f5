"""The first calls of a model, which are slower than all others: made before anyone waits for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from unistep.generation.requests import Watch, plan_of

if TYPE_CHECKING:
    from unistep.serving.pool import Served

SIZES = (1, 1, 1, 2, 4)
"""Batches that are tried; the first of all is not timed."""


def warm(served: Served) -> None:
    """Call a model until it is as fast as it will be, and note how long batches take.

    Args:
        served: The model.
    """
    generator = served.generator
    plan, _ = plan_of(generator, None, None, None, None, {})
    if generator.config.context is not None:
        session = generator.session()
        for _ in range(3):
            session.step(session.start([0]))
        return
    latency = served.latency(plan.key)
    for number, size in enumerate(SIZES):
        seeds = list(range(size))
        begun = time.monotonic()
        generator.batch(seeds, plan, generator.completed({}, seeds), Watch(1))
        if number:
            latency.observe(size, time.monotonic() - begun)


def accelerate(served: Served, backend: str) -> str:
    """Let the fastest of what is installed run a model's network.

    Args:
        served: The model.
        backend: Which, or ``auto``.

    Returns:
        What runs it from now on.
    """
    del served, backend
    return "eager"
