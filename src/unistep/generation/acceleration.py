"""Choosing what runs the network of a generator: what :meth:`Generator.accelerate` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from unistep.backends.base import PRECISIONS, BackendPrecision, backends
from unistep.backends.call import Call, Recorder
from unistep.backends.eager import Eager
from unistep.backends.trial import Acceleration, Candidate, try_backends
from unistep.files import user_cache
from unistep.generation.requests import check_number
from unistep.precision import set_memory_layout
from unistep.spelling import nearest
from unistep.weights import weights_hash

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

AUTO = "auto"
"""Whatever is fastest."""
TOLERANCE: dict[BackendPrecision, float] = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.5}
"""Largest relative error, against eager float32, of an arithmetic that is asked for by name.

In float32, programs differ in the order of their sums alone. The other bounds find a program that computes something
else; what rounding does to the quality of samples is a question for an evaluation.
"""
SEED = 3_000_000
"""First seed of the samples on which backends are tried, so that no other results have it."""
MOST_CALLS = 64
"""Network calls of those samples that are kept."""
CALIBRATION = 16
"""Samples from which the ranges of 8-bit activations are taken."""


def accelerate(
    generator: Generator,
    backend: str = AUTO,
    precision: str = AUTO,
    tolerance: float | None = None,
    batch_size: int = 1,
) -> Acceleration:
    """Let a backend run the network; see :meth:`Generator.accelerate`."""
    check_number("batch_size", batch_size, 1)
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be a number above 0, such as 0.05, got {tolerance}")
    candidates = _candidates(generator, backend, precision, tolerance)
    before = (generator.map.runner, generator.acceleration, generator.precision)
    reset(generator)
    try:
        return _chosen(generator, candidates, batch_size)
    except BaseException:  # all is as it was then
        generator.map.runner, generator.acceleration, generator.precision = before
        set_memory_layout(generator.map, generator.precision, generator.device)
        raise


def _chosen(generator: Generator, candidates: Sequence[Candidate], batch_size: int) -> Acceleration:
    """Try candidates on a generator, and let the fastest that agrees run its network.

    Raises:
        ValueError: If there is none.
    """
    eager = Candidate(backend=Eager, precision="fp32", tolerance=0.0)
    may_be_eager = any((one.backend, one.precision) == (Eager, "fp32") for one in candidates)
    others = [one for one in candidates if (one.backend, one.precision) != (Eager, "fp32")]
    calls = recorded(generator, CALIBRATION if any(one.precision == "int8" for one in others) else 2)
    trials, made = try_backends(
        generator.map.net, calls, [eager, *others], cache_of(generator), generator.device, batch_size
    )
    usable = [i for i, call in enumerate(made) if call is not None and (i > 0 or may_be_eager)]
    if not usable:
        raise ValueError("; ".join(_why_not(trial.backend, trial.precision, trial.problem) for trial in trials[1:]))
    best = min(usable, key=lambda i: trials[i].milliseconds)
    generator.map.runner = None if best == 0 else made[best]
    generator.acceleration = Acceleration(
        trials=tuple(trials), chosen=trials[best], batch_size=int(batch_size), threads=torch.get_num_threads()
    )
    return generator.acceleration


def reset(generator: Generator) -> None:
    """Let PyTorch run the network in float32 again, as after loading."""
    generator.map.runner, generator.acceleration, generator.precision = None, None, "fp32"
    set_memory_layout(generator.map, "fp32", generator.device)


def cache_of(generator: Generator) -> Any:
    """The folder in which files of a model's weights are kept."""
    return user_cache() / "backends" / weights_hash(generator.map.net.state_dict())[:32]


def recorded(generator: Generator, count: int) -> list[Call]:
    """Network calls of one form that ``count`` samples make."""
    recorder = Recorder(generator.map.net, MOST_CALLS)
    generator.map.runner = recorder
    try:
        generator.sample(count, seed=SEED)
    finally:
        generator.map.runner = None
    return [call for call in recorder.calls if call.form == recorder.calls[0].form]


def _candidates(generator: Generator, backend: str, precision: str, tolerance: float | None) -> Sequence[Candidate]:
    """What is to be tried.

    Raises:
        ValueError: If there is no such backend or arithmetic, or the one that is named cannot run here.
    """
    known = backends()
    if backend != AUTO and backend not in known:
        raise ValueError(f"unknown backend {backend!r}; {nearest(backend, [AUTO, *known])}")
    if precision != AUTO and precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; {nearest(precision, [AUTO, *PRECISIONS])}")
    if backend == AUTO:
        able = [made for made in known.values() if made.problem(generator.device) is None]
        chosen = [made for made in able if not made.slow_to_prepare]
    else:
        problem = known[backend].problem(generator.device)
        if problem is not None:
            raise ValueError(problem)
        chosen = [known[backend]]
    # Rounded numbers never come within float32's bound, so that they are tried where something else is said only.
    wanted = [one for one in PRECISIONS if precision == one or (precision == AUTO and (one == "fp32" or tolerance))]
    found = [
        Candidate(backend=made, precision=one, tolerance=tolerance or TOLERANCE[one])
        for made in chosen
        for one in made.precisions
        if one in wanted
    ]
    if not found:
        names = " or ".join(made.name for made in known.values() if precision in made.precisions)
        where = "no backend that can run here has" if backend == AUTO else f"the backend {backend} has no"
        raise ValueError(f"{where} {precision}; it is in {names}")
    return found


def _why_not(backend: str, precision: str, problem: str) -> str:
    return f"{backend} cannot run the network in {precision}: {problem}"
