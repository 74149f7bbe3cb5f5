"""Editing with a trained model: what :meth:`Generator.edit` does, in batches, each result belonging to its seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unistep.core.condition import GUIDANCE, Condition, Value, encoded, labels, parse_condition, select, to_device
from unistep.core.flowmap import AnyMap, Denoiser, GuidedDenoiser
from unistep.core.path import expand_to
from unistep.core.seeding import ItemGenerators, normal
from unistep.editing.mixture import Mixture
from unistep.editing.solvers import Problem, Settings, Solver, trace_edit
from unistep.editing.task import OPTIONS, EditOptions, Given, Task
from unistep.editing.tasks.interpolate import Interpolate, slerp
from unistep.generation.memory import check_fits
from unistep.generation.mixtures import check_mixture, with_mixture
from unistep.generation.requests import Cancel, Progress, Watch, check_number, completed, plan_of, seeds_of, with_frames
from unistep.generation.stream_editing import chunks_of, edit_chunks
from unistep.generation.streaming import session_of
from unistep.generation.tuning import kept
from unistep.precision import autocast
from unistep.registry import entries, lookup
from unistep.spelling import nearest

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

STEPS = 4
"""Calls of a one-step model where none are given."""
SOLVERS: tuple[Solver, ...] = ("back-projection", "replacement", "mixture")
"""Ways to restore."""
TEACHER = Settings(first=160.0, last=0.02, estimated=0.8)
"""Parameters of a many-step denoiser where no search has found better ones."""
MIXTURE = Settings(first=1.0, last=0.3, estimated=-0.9)
"""Those of the solver ``mixture``, near what searches found for pictures of clothes."""


def tasks() -> dict[str, type[Task]]:
    """The tasks by name."""
    return {name: lookup("task", name) for name in entries("task")}


def make_task(
    generator: Generator,
    name: str,
    options: EditOptions,
    inputs: Sequence[Path] = (),
    shape: Sequence[int] | None = None,
) -> Task:
    """The task of a model's signals.

    Args:
        generator: The model.
        name: Of the task.
        options: What was given; ``None`` is left out.
        inputs: Files that are edited, whose size a file of a mask may have.
        shape: Shape of one result; that of the model's signals without. Models that stream edit clips of any length.

    Raises:
        ValueError: If there is no such task, it does not take an option or lacks one, or such signals have none.
    """
    found = tasks()
    if name not in found:
        raise ValueError(f"there is no task {name!r}; {nearest(str(name), found)}")
    kind = found[name]
    if generator.config.context is not None:
        if not kind.in_streams:
            raise ValueError(f"there is no {name} of streams, and {generator.name} generates streams")
        chunks_of(generator, generator.signal_shape)
    for option in OPTIONS:
        if getattr(options, option) is not None and option not in kind.takes:
            taken = ", ".join(one.replace("_", "-") for one in kind.takes)
            raise ValueError(f"{name} takes no {option.replace('_', '-')}; it takes {taken}")
    modality = generator.modality if shape is None else generator.modality.part(tuple(shape))

    def read_mask(path: str) -> Tensor:
        return _mask_of_file(generator, Path(path).expanduser(), inputs)

    return kind(options, Given(shape=modality.shape, layout=modality.layout, noun=modality.noun, read_mask=read_mask))


def _mask_of_file(generator: Generator, path: Path, inputs: Sequence[Path]) -> Tensor:
    """Where a picture is white, on each moment of the signals; of arrays, where one of their shape is not zero.

    Raises:
        ValueError: If it cannot be read, or has another size than the inputs and the model.
    """
    modality = generator.modality
    layout = modality.layout
    if not layout.space and layout.time is None:
        return (modality.load(path) != 0)[None]
    if not layout.space:
        raise ValueError(f"masks of {modality.noun}s are no files such as {path}; give a span such as 0.2s:0.5s")
    flat = modality.still or modality
    values = flat.load(path)
    own = type(flat).file_shape(path)
    sizes = {flat.shape[1:], *(shape[-2:] for shape in map(type(modality).file_shape, inputs) if shape is not None)}
    if own is not None and own[-2:] not in sizes:
        fitting = " or ".join(f"{width} x {height}" for height, width in sorted(sizes, reverse=True))
        raise ValueError(f"the mask {path} has {own[-1]} x {own[-2]} pixels; it needs {fitting}, as the input has")
    shape = [1] * (len(modality.shape) + 1)
    for axis, size in zip(layout.space, values.shape[-2:], strict=True):
        shape[axis] = size
    return (values.mean(dim=0) > 0).view(shape)


def edit(
    generator: Generator,
    task: str | Task,
    x: Tensor | Sequence[Tensor] | None = None,
    *,
    steps: int | None = None,
    solver: Solver = "back-projection",
    prior: Mixture | Generator | None = None,
    seed: Any = 0,
    settings: Settings | None = None,
    degrade: bool = False,
    guidance: float | None = None,
    batch_size: int = 64,
    callback: Progress = None,
    cancel: Cancel = None,
    **given: Any,
) -> Tensor:
    """Edit or restore signals; see :meth:`Generator.edit`.

    Args:
        generator: The model.
        task: The task, or its name.
        x: Inputs.
        steps: Calls of the model; :func:`usual_steps` without.
        solver: One of :data:`SOLVERS`.
        prior: What the solver ``mixture`` knows of signals: a mixture, or another model, to whose samples one is
            fitted; the model's own samples without.
        seed: Seed of the first result, or one for each.
        settings: Parameters of the solver; see :func:`settings_of`.
        degrade: Whether the inputs are clean signals that the task degrades first.
        guidance: Guidance weight of a denoiser.
        batch_size: Items that go through the network together.
        callback: Called with the share of the work that is done.
        cancel: Whether to stop, as in :meth:`Generator.sample`.
        **given: Options of the task, and conditions.

    Raises:
        ValueError: For a bad number, an unknown task or solver, or what a task or a solver cannot do.
        CancelledError: If it was cancelled.
    """
    check_number("batch_size", batch_size, 1)
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r} of editing; {nearest(str(solver), SOLVERS)}")
    options = EditOptions(**{name: given.pop(name) for name in OPTIONS if name in given})
    work = task if isinstance(task, Task) else make_task(generator, task, options, shape=_length_of(generator, x))
    if solver == "mixture":
        check_mixture(generator, work)
    elif prior is not None:
        raise ValueError(f"a prior belongs to the solver mixture, not to {solver}")
    steps = usual_steps(generator) if steps is None else steps
    plan, condition = plan_of(generator, steps, None, None, guidance, given)
    signals = _inputs(generator, work, x, degrade)
    count = work.count if isinstance(work, Interpolate) else len(signals[0])
    check_fits(count, 4 * math.prod(work.given.shape))
    seeds = seeds_of(None if isinstance(work, Interpolate) else count, seed)
    if degrade:
        signals = [work.noisy(work.degraded(signals[0]), seeds), *signals[1:]]
    chosen = settings_of(generator, work, len(plan.grid), settings, solver)
    chosen = chosen.plain() if solver == "replacement" else chosen
    chunks = chunks_of(generator, work.given.shape)
    parsed = parse_condition(generator.config.fields, condition, count, generator.modality.load)
    parsed = with_frames(parsed, generator, chunks)
    model: AnyMap = generator.map
    if isinstance(model, Denoiser) and plan.guidance != 1:
        model = GuidedDenoiser(model, plan.guidance)
    problem = work.problem(*signals)
    if solver == "mixture":
        problem = with_mixture(generator, problem, prior, cancel)
    if isinstance(work, Interpolate):
        noises = _between(generator, work, seeds[0])
        seeds = [seeds[0]] * count
        chosen = chosen if signals else replace(chosen, first=1e4, last=4.0)
    else:
        noises = None
    session = None
    if generator.config.context is not None:
        session = session_of(generator, plan)
    parsed = _with_weight(generator, parsed, seeds)
    starts, results = range(0, count, batch_size), []
    if len(starts) > 1 and problem.constraint is not None:
        problem.constraint.check_parts()
    watch = Watch(len(starts) * steps * chunks, callback, cancel)
    for start in starts:
        rows = slice(start, min(start + batch_size, count))
        noise = None if noises is None else noises[rows]
        part = select(parsed, rows)
        posed = problem.select(rows).to(generator.device)
        if session is None:
            x = _whole(generator, model, posed, seeds[rows], noise, steps, chosen, part, watch)
        else:
            x = edit_chunks(generator, session, model, posed, seeds[rows], steps, chosen, part, watch)
        results.append(_exact(generator, posed, x))
    return torch.cat(results)


def _length_of(generator: Generator, x: Tensor | Sequence[Tensor] | None) -> tuple[int, ...] | None:
    """The shape of the results of clips of another length than the model's, where it streams; ``None`` for its own."""
    axis = generator.modality.layout.time
    first = x if x is None or isinstance(x, Tensor) else next(iter(x), None)
    if generator.config.context is None or axis is None or not isinstance(first, Tensor):
        return None
    own = list(generator.signal_shape)
    if first.dim() in (len(own), len(own) + 1):
        own[axis - 1] = first.shape[axis - len(own) - 1]
    return tuple(own)


def _with_weight(generator: Generator, condition: dict[str, Value], seeds: Sequence[int]) -> Condition:
    """The condition with the model's own guidance weight for items that have something for it to strengthen."""
    field, shown = generator.config.fields.get(GUIDANCE), labels(condition)
    if field is None or GUIDANCE in condition or not shown:
        return condition
    weight = completed({GUIDANCE: field}, {}, seeds)[GUIDANCE]
    has = torch.stack([value.has_condition().cpu() for value in shown.values()]).any(dim=0)
    return {**condition, GUIDANCE: weight.where(has, weight.null())}


def usual_steps(generator: Generator) -> int:
    """Calls of the model where none are given: :data:`STEPS`, of a many-step denoiser its own number."""
    return generator.config.steps if generator.kind == "denoiser" else STEPS


def _inputs(generator: Generator, work: Task, x: Tensor | Sequence[Tensor] | None, degrade: bool) -> list[Tensor]:
    """The inputs of a task, as batches on the model's device, once they have its shape.

    Raises:
        ValueError: If they are too few or too many, have another shape, or are no finite numbers.
    """
    if x is None:
        if work.optional:
            return []
        raise ValueError(f"{work.name()} needs signals to edit")
    many = [x] if isinstance(x, Tensor) else list(x)
    if len(many) != work.inputs:
        raise ValueError(f"{work.name()} needs {work.inputs} input{'s' if work.inputs > 1 else ''}, got {len(many)}")
    shape = work.given.shape if degrade else work.input_shape
    found = []
    for one in many:
        if not isinstance(one, Tensor):
            raise ValueError(f"signals must be a torch tensor, got {type(one).__name__}; torch.from_numpy makes one")
        batch = one[None] if shape and tuple(one.shape) == shape else one
        if shape and (tuple(batch.shape[1:]) != shape or len(batch) == 0):
            raise ValueError(f"{work.name()} needs signals of shape {list(shape)}, got {list(one.shape)}")
        if not batch.isfinite().all():
            raise ValueError(f"{int((~batch.isfinite()).sum())} values of the input are not numbers")
        if batch.is_complex() and shape:
            raise ValueError(f"{work.name()} needs signals of real numbers, got complex ones")
        found.append(batch.detach().to(torch.complex64 if batch.is_complex() else torch.float32))
    if len({len(batch) for batch in found}) > 1:
        raise ValueError(f"{work.name()} needs as many second inputs as first ones, got {[len(b) for b in found]}")
    return found


def settings_of(
    generator: Generator,
    work: Task,
    steps: int,
    given: Settings | None = None,
    solver: Solver = "back-projection",
) -> Settings:
    """The parameters of a task: those that are given, that a search has found here or for the model, or the usual ones.

    Args:
        generator: The model.
        work: The task.
        steps: Calls of the model.
        given: Parameters in place of all others.
        solver: The solver; the replacement takes those of back-projection.
    """
    if given is not None:
        return given
    found = nearest_settings({**generator.config.editing, **kept(generator)}, work, steps, solver)
    if solver == "mixture":
        return MIXTURE if found is None else found
    usual = work.settings if generator.kind != "denoiser" or work.begins_low else TEACHER
    return work.tuned(usual if found is None else found)


def settings_key(key: str, solver: Solver) -> str:
    """What a task's parameters are kept under: its key, with the solver where that has parameters of its own."""
    return f"{key}-{solver}" if solver == "mixture" else key


def nearest_settings(
    found: Mapping[str, Settings], work: Task, steps: int, solver: Solver = "back-projection"
) -> Settings | None:
    """The parameters of a task at the number of steps that is nearest, by their ratio.

    Args:
        found: Parameters under the task's key, or its name, and a number of steps, such as ``inpaint/4``.
        work: The task.
        steps: Calls of the model.
        solver: The solver.
    """
    for key in dict.fromkeys(settings_key(key, solver) for key in (work.key, work.name())):
        there = {int(name.rpartition("/")[2]): one for name, one in found.items() if name.rpartition("/")[0] == key}
        if there:
            return there[min(there, key=lambda count: (abs(math.log(count / steps)), count))]
    return None


def _between(generator: Generator, work: Interpolate, seed: int) -> Tensor:
    """The noise of each step between two samples."""
    other = seed + 1 if work.options.to_seed is None else work.options.to_seed
    seeds_of(None, other)
    ends = normal((2, *generator.shape), ItemGenerators([seed, other]))
    return slerp(ends[:1], ends[1:], work.shares())


@torch.inference_mode()
def _exact(generator: Generator, problem: Problem, x: Tensor) -> Tensor:
    """Results that agree with what is known without noise, on the CPU."""
    known = problem.constraint
    if known is None:
        return x.cpu()
    exact = known.satisfied(x, generator.codec.within_range)
    noisy = expand_to(known.sigma > 0, x)
    return torch.where(noisy, x, exact).cpu()


@torch.inference_mode()
def _whole(
    generator: Generator,
    model: AnyMap,
    problem: Problem,
    seeds: list[int],
    noise: Tensor | None,
    steps: int,
    settings: Settings,
    condition: Mapping[str, Any],
    watch: Watch,
) -> Tensor:
    """Signals of a model of whole signals."""
    items = ItemGenerators(seeds)
    drawn = normal((len(seeds), *generator.shape), items)
    noise = (drawn if noise is None else noise).to(generator.device)
    seen = encoded(to_device(condition, generator.device), generator.codec.encode_reference)
    config = generator.config
    with autocast(generator.precision, generator.device):
        trace = trace_edit(
            model, generator.codec, problem, noise, steps, settings, seen,
            sigma_data=config.sigma_data, sigma_min_trained=config.sigma_min_trained, generator=items,
        )  # fmt: skip
        return watch.last_of(trace).float()
