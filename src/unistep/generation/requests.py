"""Requests for samples with seeds, conditions and steps of their own, batched where the steps agree."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unistep.core.condition import GUIDANCE, AnyField, Value, asked, concat, parse_condition, select
from unistep.core.sampling_inputs import given_times
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.editing.tasks.interpolate import slerp
from unistep.generation.memory import check_fits
from unistep.generation.model_config import MAX_STEPS
from unistep.registry import lookup

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

Cancel = Callable[[], bool] | Event | None
"""What stops sampling: a function that returns whether to, or an event that is set."""

Progress = Callable[[float], object] | None
"""Called with the share of the work that is done, in (0, 1], after each sampling step of each batch."""


class CancelledError(RuntimeError):
    """Sampling was cancelled; there is no result."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One sample that is asked for; what is not given is the model's default."""

    seed: int = 0
    """Seed that the sample belongs to."""
    steps: int | None = None
    """Sampling steps."""
    times: Sequence[float] | Tensor | None = None
    """Decreasing times on the model's path, one for each step."""
    solver: str | None = None
    """ODE solver; denoisers only."""
    guidance: float | None = None
    """Guidance weight."""
    toward: tuple[int, float] | None = None
    """Another seed and a share in [0, 1]: the sample begins with noise so far on the great circle from that of
    :attr:`seed` to that of the other. For models that make whole signals."""
    condition: Mapping[str, Any] = field(default_factory=dict)
    """Values of the model's fields by name; those that are not given are drawn from the seed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How a batch is sampled: what its items have in common."""

    grid: Tensor
    """Sampling times, shape ``[steps]``."""
    solver: str | None
    """ODE solver of a denoiser."""
    guidance: float
    """Guidance weight by which the network is evaluated twice; 1 for none."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What two plans must agree in to be one batch."""
        return (tuple(self.grid.tolist()), self.solver, self.guidance)


class Watch:
    """Counts sampling steps for a callback, and asks whether to cancel after each.

    Args:
        total: Steps of all batches.
        callback: Called with the share that is done.
        cancel: What stops sampling.
    """

    def __init__(self, total: int, callback: Progress = None, cancel: Cancel = None) -> None:
        self._total, self._callback, self._done = total, callback, 0
        self._stop: Callable[[], bool] = cancel.is_set if isinstance(cancel, Event) else cancel or (lambda: False)

    def check(self) -> None:
        """Raise if sampling is to stop.

        Raises:
            CancelledError: If it is.
        """
        if self._stop():
            raise CancelledError("sampling was cancelled")

    def last_of(self, steps: Iterable[Tensor]) -> Tensor:
        """The last value of a sampler's trace, with a look at the clock after each."""
        self.check()
        last: Tensor | None = None
        for x in steps:
            last = x
            self._done += 1
            if self._callback is not None:
                self._callback(min(self._done / self._total, 1.0))
            self.check()
        assert last is not None  # a trace has a step at least
        return last


def sample_requests(
    generator: Generator,
    requests: Sequence[Request],
    *,
    batch_size: int = 64,
    callback: Progress = None,
    cancel: Cancel = None,
) -> Tensor:
    """Draw what is asked for; each result is what the request would give alone, to float tolerance.

    Args:
        generator: The model.
        requests: Requests of any seeds; those of the same times, solver and guidance go through the network together.
        batch_size: Items that go through the network together at most.
        callback: Called with the share that is done after each step.
        cancel: What stops sampling.

    Returns:
        Samples in the order of the requests, float32 on the CPU, shape ``[len(requests), *signal_shape]``.

    Raises:
        ValueError: For a mistake in a request, as in :meth:`Generator.sample`.
        CancelledError: If sampling was cancelled.
    """
    check_number("batch_size", batch_size, 1)
    check_fits(len(requests), math.prod(generator.signal_shape))
    plans, conditions = [], []
    for request in requests:
        check_seed(request.seed)
        plan, condition = plan_of(
            generator, request.steps, request.times, request.solver, request.guidance, request.condition
        )
        given = with_frames(parse_condition(generator.config.fields, condition, 1, generator.modality.load), generator)
        plans.append(plan)
        conditions.append(generator.completed(given, [int(request.seed)]))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, plan in enumerate(plans):
        # What a streaming model is not given it draws chunk by chunk, so that items of a batch have the same fields.
        groups.setdefault((*plan.key, *sorted(conditions[index])), []).append(index)
    parts = [
        (plans[indices[0]], indices[i : i + batch_size])
        for indices in groups.values()
        for i in range(0, len(indices), batch_size)
    ]
    watch = Watch(sum(len(plan.grid) * generator.chunks for plan, _ in parts), callback, cancel)
    samples = torch.empty(len(requests), *generator.signal_shape)
    for plan, indices in parts:
        seeds = [int(requests[i].seed) for i in indices]
        noise = noise_of(generator, seeds, [requests[i].toward for i in indices])
        samples[indices] = generator.batch(seeds, plan, concat([conditions[i] for i in indices]), watch, noise)
    return samples


def noise_of(generator: Generator, seeds: Sequence[int], toward: Sequence[tuple[int, float] | None]) -> Tensor | None:
    """The noise that samples begin with, ``[len(seeds), *shape]``; ``None`` where it is that of their seeds.

    Args:
        generator: The model.
        seeds: One for each sample.
        toward: Another seed and a share for each, as :attr:`Request.toward`.

    Raises:
        ValueError: If a seed or a share is none, or the model streams.
    """
    if not any(toward):
        return None
    if generator.config.context is not None:
        raise ValueError(f"{generator.name} streams: no sample of it lies between two seeds")
    noise = normal((len(seeds), *generator.shape), ItemGenerators(list(seeds)))
    for row, target in enumerate(toward):
        if target is not None:
            try:
                other, share = target
                share = float(share)
            except (TypeError, ValueError):
                raise ValueError(
                    f"toward must be another seed and a share from 0 to 1, such as (7, 0.5), got {target!r}"
                ) from None
            check_seed(other)
            if not 0 <= share <= 1:
                raise ValueError(f"the share of a walk must be from 0 to 1, got {share}")
            end = normal((1, *generator.shape), ItemGenerators([int(other)]))
            noise[row] = slerp(noise[row, None], end, torch.tensor([share]))[0]
    return noise


def sample_seeds(
    generator: Generator,
    seeds: Sequence[int],
    plan: Plan,
    given: Mapping[str, Value],
    *,
    batch_size: int,
    callback: Progress = None,
    cancel: Cancel = None,
) -> Tensor:
    """Samples of one plan in batches, shape ``[len(seeds), *signal_shape]``.

    Args:
        generator: The model.
        seeds: One for each sample.
        plan: How they are sampled.
        given: The condition of all of them, as far as it is given.
        batch_size: Items that go through the network together at most.
        callback: Called with the share that is done after each step.
        cancel: What stops sampling.

    Raises:
        ValueError: If the condition has fewer frames than a sample.
    """
    given = with_frames(given, generator)
    starts = range(0, len(seeds), batch_size)
    watch, pieces = Watch(len(starts) * len(plan.grid) * generator.chunks, callback, cancel), []
    for start in starts:
        rows = slice(start, start + batch_size)
        part = generator.completed(given if len(starts) == 1 else select(given, rows), seeds[rows])
        pieces.append(generator.batch(seeds[rows], plan, part, watch))
    return torch.cat(pieces)  # of one too: a copy from outside of inference mode may be changed in place


def completed(fields: Mapping[str, AnyField], given: Mapping[str, Value], seeds: Sequence[int]) -> dict[str, Value]:
    """A condition with the fields drawn that are not given, each from random numbers of its own.

    Args:
        fields: Those that a model takes.
        given: Values of ``len(seeds)`` items.
        seeds: One for each item.
    """
    full = dict(given)
    for name, spec in fields.items():
        if name not in full:
            full[name] = spec.draw(len(seeds), ItemGenerators([derived_seed(name, seed) for seed in seeds]))
    return full


def with_frames(given: Mapping[str, Value], generator: Generator, chunks: int | None = None) -> dict[str, Value]:
    """A condition whose values of single frames are those of one sample; more of them are left out.

    Args:
        given: The condition.
        generator: The model; one of whole signals takes them as they are.
        chunks: How many frames there are; those of one sample without.

    Raises:
        ValueError: If there are fewer frames than a sample has.
    """
    if generator.config.context is None:
        return dict(given)
    count = generator.chunks if chunks is None else chunks
    for name, value in given.items():
        if value.frames is not None and value.frames < count:
            raise ValueError(f"{name} has {value.frames} frames, and a sample of {generator.name} {count}")
    return {name: value.first_frames(count) for name, value in given.items()}


def plan_of(
    generator: Generator,
    steps: int | None,
    times: Sequence[float] | Tensor | None,
    solver: str | None,
    guidance: Any,
    condition: Mapping[str, Any],
) -> tuple[Plan, dict[str, Any]]:
    """How to sample, and the condition, which holds the guidance weight of a model that takes it as one.

    Raises:
        ValueError: Naming the option, its value and what was expected.
    """
    config, name = generator.config, generator.name
    grid = None if times is None else given_times(times, steps, config.path, config.sigma_min_trained)
    count: Any = (config.steps if steps is None else steps) if grid is None else len(grid)
    check_number("steps", count, 1)
    if count > MAX_STEPS:
        raise ValueError(f"steps must be at most {MAX_STEPS}, got {count}")
    if grid is None and (wrong := config.untrained(int(count))):
        warnings.warn(f"{name} {wrong}", stacklevel=3)
    grid = generator.times(int(count)) if grid is None else grid
    if solver is not None:
        lookup("solver", solver)
    one_step = generator.kind != "denoiser"
    if GUIDANCE in config.fields:  # a condition, which is checked with the others
        if one_step and solver is not None:
            raise ValueError(f"{name} is a one-step model: it takes no solver, only steps and guidance")
        own = condition.get(GUIDANCE)
        if own is not None and guidance is not None:
            raise ValueError(f"guidance is given twice, as {guidance} and as {own} in the condition; give it once")
        weight = own if guidance is None else guidance
        return Plan(grid=grid, solver=solver, guidance=1.0), {**condition, GUIDANCE: weight}
    guidance = 1.0 if guidance is None else guidance
    if isinstance(guidance, str) or not isinstance(guidance, numbers.Real) or not math.isfinite(guidance):
        raise ValueError(f"guidance must be a finite number, got {guidance}")
    if one_step and (solver is not None or guidance != 1):
        raise ValueError(f"{name} is a one-step model: it takes neither a solver nor guidance, only steps")
    if guidance != 1 and not asked(config.fields):
        raise ValueError(f"{name} takes no condition that guidance could strengthen; leave it at 1")
    return Plan(grid=grid, solver=solver, guidance=float(guidance)), dict(condition)


def check_number(name: str, value: Any, least: int) -> None:
    """Check a whole number of any library.

    Raises:
        ValueError: If it is none, or below ``least``.
    """
    if type(value) is not int and (not isinstance(value, numbers.Integral) or isinstance(value, bool)):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if int(value) < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_seed(seed: Any, num: int = 0) -> None:
    """Check the first of ``num`` seeds in a row.

    Raises:
        ValueError: If it is no whole number, or one of them is out of range.
    """
    one = seed.item() if isinstance(seed, Tensor) and not seed.shape else seed
    if type(one) is not int and (not isinstance(one, numbers.Integral) or isinstance(one, bool)):
        raise ValueError(f"seed must be a whole number, or one for each sample, got {seed!r}")
    if not 0 <= int(seed) <= 2**63 - 1 - num:
        raise ValueError(f"seed must be from 0 to 2**63 - 1{' - num' if num else ''}, got {seed}")


def seeds_of(num: int | None, seed: Any) -> list[int]:
    """The seed of each sample: ``seed`` and those that follow, or those that are given.

    Raises:
        ValueError: For a number of samples or a seed that is none, or numbers that do not agree.
    """
    if num is not None:
        check_number("num", num, 1)
    one = isinstance(seed, numbers.Integral | str) or getattr(seed, "ndim", None) == 0
    if one or not isinstance(seed, Iterable):
        num = 1 if num is None else int(num)
        check_seed(seed, num)
        return list(range(int(seed), int(seed) + num))
    seeds = list(seed)
    for one in seeds:
        check_seed(one)
    if not seeds or (num is not None and num != len(seeds)):
        raise ValueError(f"there are {len(seeds)} seeds for {num or 'no'} samples; give one seed, or one for each")
    return [int(one) for one in seeds]
