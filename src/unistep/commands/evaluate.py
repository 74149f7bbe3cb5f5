"""``unistep evaluate``: quality against network calls, for a model and its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from unistep.commands.extras import require
from unistep.commands.outputs import check_file
from unistep.commands.parse import parse

if TYPE_CHECKING:
    from unistep.data import DataConfig, Dataset
    from unistep.evaluation.judge import Sweep
    from unistep.generator import Generator

SolverName = Literal["heun", "euler", "dpmpp2m"]
MAX_STEPS = 1000
"""As in :class:`unistep.generator.Generator`, which is not imported before the options are known to be sound."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Judge a model against real data: Fréchet distance, KID, precision and recall on named features, and speed."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    teacher: str | None = None
    """Another model to judge beside it, usually its teacher."""
    data: str = "fashion-mnist"
    """The real pictures: fashion-mnist[:SPLIT], folder:PATH, npz:FILE or hf:NAME[:SPLIT]."""
    features: str = "fashion"
    """Feature network: fashion, pixels, a directory, inception:FILE, torchscript:FILE or module:PACKAGE:CALLABLE."""
    steps: tuple[int, ...] = ()
    """Sampling steps of the model, one row each; 1 2 4 for a one-step model, 5 10 18 for a teacher without."""
    teacher_steps: tuple[int, ...] = (5, 10, 18)
    """Sampling steps of the teacher, one row each and for each solver."""
    solver: tuple[SolverName, ...] = ("heun", "dpmpp2m")
    """ODE solvers of a many-step model."""
    num: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10_000
    """Samples for each row."""
    seed: int = 0
    """Seed of the first sample."""
    batch_size: int = 64
    """Samples that go through a model together."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    json: Path | None = None
    """File for the whole report as JSON."""
    plot: Path | None = None
    """File for a plot of quality against network calls: .png, .svg or .pdf."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate, print the table, and write the files that were asked for."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    json = None if options.json is None else check_file(options.json, (".json",))
    plot = None if options.plot is None else check_file(options.plot, (".png", ".svg", ".pdf"))
    check_numbers(options)
    require("eval", "unistep evaluate", ("torchmetrics", "sklearn", "scipy"))
    if plot is not None:
        require("eval", "--plot", ("matplotlib",))
    from rich.console import Console

    from unistep.commands.devices import choose_device
    from unistep.data import prepare
    from unistep.evaluation import evaluate, load_features, save_plot
    from unistep.hub.load import load

    device = choose_device(options.device)
    names = [options.model, *([] if options.teacher is None else [options.teacher])]
    models = [load(name, device=device) for name in names]
    features = load_features(options.features, shape=models[0].shape)
    config = data_for(models[0], options.data)
    reference = prepare(config)
    _check_shapes(models, reference)
    report = evaluate(
        models,
        reference,
        features=features.to(device),
        num=options.num,
        sweep=sweep(options, models[0].kind),
        test=prepare(test_split(config)) if test_split(config) != config else None,
        seed=options.seed,
        batch_size=options.batch_size,
    )
    console = Console()
    console.print(report.table(console.width))
    if json is not None:
        report.save_json(json)
        print(f"written to {options.json}")
    if plot is not None:
        save_plot(report, plot)
        print(f"written to {options.plot}")
    return 0


def check_numbers(options: EvaluateOptions) -> None:
    """Refuse numbers that make no sense before anything is loaded.

    Raises:
        ValueError: Naming the option and the value.
    """
    for name, values in (("--steps", options.steps), ("--teacher-steps", options.teacher_steps)):
        for value in values:
            if not 1 <= value <= MAX_STEPS:
                raise ValueError(f"{name} must be from 1 to {MAX_STEPS}, got {value}")
    if not options.teacher_steps:
        raise ValueError("--teacher-steps needs one or more numbers, such as 5 10 18")
    if not options.solver:
        raise ValueError("--solver needs one or more of heun, euler, dpmpp2m")
    if options.num < 10:
        raise ValueError(f"--num must be at least 10 samples, got {options.num}; 10000 is usual")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    if not 0 <= options.seed <= 2**63 - 1 - options.num:
        raise ValueError(f"--seed must be from 0 to 2**63 - 1 - num, got {options.seed}")


def sweep(options: EvaluateOptions, kind: str) -> Sweep:
    """The settings to sample at, by kind of model."""
    from unistep.evaluation.judge import Setting

    many = options.steps if kind == "denoiser" and options.steps else options.teacher_steps
    few = options.steps if kind != "denoiser" and options.steps else (1, 2, 4)
    return {
        "consistency": tuple(Setting(steps=n) for n in dict.fromkeys(few)),
        "flow_map": tuple(Setting(steps=n) for n in dict.fromkeys(few)),
        "denoiser": tuple(
            Setting(steps=n, solver=solver) for solver in dict.fromkeys(options.solver) for n in dict.fromkeys(many)
        ),
    }


def data_for(model: Generator, source: str) -> DataConfig:
    """The data at the size and with the channels of the model, where the source has none of its own."""
    from unistep.data import DataConfig

    if source.partition(":")[0] == "fashion-mnist":
        return DataConfig(source=source)
    channels, height, width = model.shape
    return DataConfig(source=source, channels=channels, size=height if height == width else None)


def test_split(config: DataConfig) -> DataConfig:
    """The held-out part that shows how good a perfect model would be; the same data where there is none."""
    from dataclasses import replace

    name, _, split = config.source.partition(":")
    if name == "fashion-mnist" and (split or config.split) == "train":
        return replace(config, source=name, split="test")
    return config


def _check_shapes(models: Sequence[Generator], reference: Dataset) -> None:
    """Say now what would come out after the first samples."""
    for model in models:
        if model.shape != reference.shape:
            made, real = ("x".join(map(str, shape)) for shape in (model.shape, reference.shape))
            raise ValueError(f"{model.name} makes samples of {made}, {reference.source} has {real}; use matching data")
