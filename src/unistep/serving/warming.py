"""The first calls of a model, which are slower than all others: made before anyone waits for them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch

from unistep.generation.requests import Plan, Watch, plan_of
from unistep.serving.jobs import kind_of

if TYPE_CHECKING:
    from unistep.core.values import Value
    from unistep.generation.generator import Generator
    from unistep.serving.pool import Served

SIZES = (1, 1, 1, 2, 4)
"""Batches that are tried; the first of all is not timed."""


def warming(served: Served) -> Iterator[Callable[[], object]]:
    """Calls of a model until it is as fast as it will be, which note how long batches take.

    Args:
        served: The model.
    """
    generator = served.generator
    plan, _ = plan_of(generator, None, None, None, None, {})
    if generator.config.context is not None:
        session = generator.session()
        for _ in range(3):
            yield lambda: session.step(session.start([0]))
        return
    for number, size in enumerate(SIZES):
        seeds = list(range(size))
        yield partial(_timed, served, plan, seeds, generator.completed({}, seeds), noted=number > 0)


def _timed(served: Served, plan: Plan, seeds: list[int], condition: Mapping[str, Value], *, noted: bool) -> None:
    begun = time.monotonic()
    served.generator.batch(seeds, plan, condition, Watch(1))
    if noted:
        served.latency(kind_of(plan)).observe(len(seeds), time.monotonic() - begun)


def freeze() -> None:
    """Let the garbage collector leave alone what is in memory now.

    Looking through all modules and models takes it half a second, in which no thread of Python goes on. A model that is
    dropped is freed all the same, since it is in no cycle of references.
    """
    gc.collect()
    gc.freeze()


def accelerate(served: Served, copy: Generator, backend: str, threads: int, precision: str = "auto") -> str:
    """Let the fastest backend that agrees run a model's network; requests go on meanwhile.

    Args:
        served: The model.
        copy: The same model once more, on which backends are tried.
        backend: Which, or ``auto``.
        threads: Threads of the network.
        precision: Its arithmetic; that of the model without.

    Returns:
        What runs it from now on, such as ``fp32 by openvino``.

    Raises:
        ValueError: If the backend that is named cannot run it.
    """
    torch.set_num_threads(threads)  # of this thread, from which backends take theirs
    own = "auto" if copy.precision == "fp32" else copy.precision
    found = copy.accelerate(backend, own if precision == "auto" else precision)
    served.generator.map.runner = copy.map.runner
    served.generator.acceleration = found
    served.latencies.clear()
    return served.generator.arithmetic
