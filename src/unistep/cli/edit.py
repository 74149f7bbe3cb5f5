"""``unistep edit``: restoring and changing pictures, sounds and videos with a trained model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from unistep.cli.marking import MarkingOptions, read_signing
from unistep.cli.model_options import ModelOptions, parse_model_options
from unistep.editing.options import TaskOptions

if TYPE_CHECKING:
    from unistep.editing.mixture import Mixture
    from unistep.editing.task import Task
    from unistep.generation.generator import Generator


@dataclass(frozen=True, kw_only=True)
class EditCommand(TaskOptions, MarkingOptions):
    """Edit files with a model, without training: unistep edit TASK MODEL INPUT -o OUT."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
    """inpaint, outpaint, predict, colorize, upscale, deblur, denoise, declip, extend, sketch, vary, compose or
    interpolate."""
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    inputs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="INPUT")] = ()
    """A file or a folder of files; two of them for compose and interpolate, or none for interpolate."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write, several results as a grid, or a folder, whose files are named after the inputs. Without,
    edited.png, edited.wav or edited.mp4, and the folder edited for several inputs."""
    mask: str | None = None
    """What to make anew: left, right, top, bottom, center; LEFT,TOP,RIGHT,BOTTOM in pixels of the model; ellipse: with
    such numbers; a span such as 0.2s:0.5s, or 3:6 for frames from 0; random:SHARE; a picture that is white there; or
    several with + between them."""
    kernel: str | None = None
    """deblur: what blurred the input: gaussian:SIGMA, box:SIDE, motion:LENGTH:DEGREES, or a file, .npy or a picture."""
    num: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    """Results of each input, with seeds in a row."""
    frames: int | None = None
    """Models that generate streams of frames: how many of the input are edited; as many as a sample has, without."""
    steps: int | None = None
    """Network calls: 4 without, of a many-step teacher its default."""
    solver: Literal["back-projection", "replacement", "mixture"] = "back-projection"
    """How what is known is kept: by back-projection with tuned noise, by the original paper's replacement, or by a
    mixture of Gaussians, fitted once to 8,000 samples, which restores simple pictures best."""
    prior: str | None = None
    """--solver mixture: the model whose samples the mixture is fitted to; without, of a shipped teacher its one-step
    student, else MODEL itself."""
    seed: int = 0
    """Seed of the first result; result i belongs to seed + i, whichever batch it is made in."""
    guidance: float | None = None
    """Guidance weight, as of `unistep sample`."""
    degrade: bool = False
    """The inputs are whole: degrade them first as the task undoes it, and print the PSNR of the results."""
    tune: str | None = None
    """Held-out data such as folder:DIR, on which the solver's parameters are searched first; they are kept in the cache
    for later calls. INPUT may be left out."""
    sheet: Path | None = None
    """Picture to write besides: inputs above results, of the first eight."""
    batch_size: int = 64
    """Files that go through the network together."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the network: fp32, the same on every device; bf16, faster where there are units for it; or auto."""


def run(arguments: Sequence[str]) -> int:
    """Edit, save, and say what it took."""
    given = parse_model_options(
        EditCommand, "edit", arguments, "Edit files with a model, without training.", without="none", position=1
    )
    _edit(given)
    return 0


def _edit(given: ModelOptions) -> None:
    from unistep.cli.console import progress
    from unistep.cli.devices import choose_device
    from unistep.cli.edit_files import Inputs, Results, find_inputs
    from unistep.editing.task import OPTIONS, EditOptions
    from unistep.generation.editing import make_task, usual_steps
    from unistep.hub.load import load

    options = given.options
    device = choose_device(options.device)
    generator = load(options.model, device=device, precision=options.precision)
    described = EditOptions(**{name: getattr(options, name) for name in OPTIONS if hasattr(options, name)})
    named = [Path(path).expanduser() for path in options.inputs]
    files = find_inputs(named, generator.modality)
    shape = _shape(generator, options.frames)
    task = make_task(generator, options.task, described, [path for row in files for path in row], shape)
    steps = options.steps or usual_steps(generator)
    prior = _prior(options, generator, task)
    if options.tune is not None:
        from unistep.cli.edit_tuning import tune

        line = tune(
            generator, task, options.tune,
            steps=steps, solver=options.solver, prior=prior, batch_size=options.batch_size, condition=given.condition,
        )  # fmt: skip
        print(line)
        if not files:
            return
    inputs = Inputs(files, task, generator, options.num, whole=options.degrade)
    results = Results(options.out, options.sheet, generator, inputs)
    if not options.unmarked:
        results.mark(given.condition, read_signing(options, results.suffix))
    began, done, errors, kept = time.perf_counter(), 0, [], 0.0
    with progress("editing") as callback:
        for batch in inputs.batches(options.batch_size if task.together else 1):
            first = done

            def share(part: float, first: int = first, size: int = batch.size) -> None:
                callback((first + part * size) / max(1, inputs.total))

            x = generator.edit(
                task,
                batch.signals,
                steps=options.steps,
                solver=options.solver,
                prior=prior,
                seed=options.seed + done,
                degrade=options.degrade,
                guidance=options.guidance,
                batch_size=options.batch_size,
                callback=share,
                **given.condition,
            )
            done += batch.size
            found = results.add(batch, x, options.seed + first, degrade=options.degrade)
            errors += found.errors
            kept = max(kept, found.residual)
    seconds = time.perf_counter() - began
    results.finish()
    noun = generator.modality.noun
    print(
        f"{results.count} {noun}{'s' if results.count != 1 else ''} by {options.task} with {generator.name} in "
        f"{seconds:.2f} s ({results.count / seconds:.1f}/s), {steps} network call{'s' if steps > 1 else ''} each, "
        f"{generator.precision} on {generator.device}"
    )
    if results.constrained:
        print(f"what is known is kept to {kept:.1e}")
    if errors:
        print(f"PSNR {sum(errors) / len(errors):.2f} dB on average")
    for line in inputs.skipped:
        print(f"skipped: {line}")
    print(f"written to {results.where}")


def _prior(options: EditCommand, generator: Generator, task: Task) -> Mixture | None:
    """The mixture of the solver of that name, made before anything else is, with a bar of its own.

    Raises:
        ValueError: If there is no such model, or the task has no such solver.
    """
    if options.solver != "mixture":
        if options.prior is not None:
            raise ValueError(f"--prior belongs to --solver mixture, not to {options.solver}")
        return None
    from unistep.generation.mixtures import check_mixture, mixture_of
    from unistep.hub.load import load, models

    check_mixture(generator, task)
    student, shipped = options.model.removesuffix("-teacher"), models()
    name = options.prior or (student if {student, options.model} <= shipped.keys() else options.model)
    prior = generator if name == options.model else load(name, device=generator.device, precision=options.precision)
    if prior.signal_shape != generator.signal_shape:
        raise ValueError(
            f"{name} samples signals of shape {list(prior.signal_shape)}, and those of {generator.name} have "
            f"{list(generator.signal_shape)}; name another --prior"
        )
    return mixture_of(prior)


def _shape(generator: Generator, frames: int | None) -> tuple[int, ...] | None:
    """The shape of clips of so many frames.

    Raises:
        ValueError: If the model makes no streams of frames, or there are none.
    """
    if frames is None:
        return None
    if generator.config.context is None or generator.modality.still is None:
        raise ValueError(f"--frames belongs to models that generate streams of frames, and {generator.name} does not")
    if frames < 1:
        raise ValueError(f"--frames must be at least 1, got {frames}")
    axis = generator.modality.layout.time
    return tuple(frames if i + 1 == axis else size for i, size in enumerate(generator.signal_shape))
