"""``unistep evaluate``: quality against network calls, for a model and its teacher."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from unistep.cli.console import make_console
from unistep.cli.evaluate_rollout import rollout
from unistep.cli.evaluation_data import check_data, data_for, speech_networks, test_split
from unistep.cli.extras import require
from unistep.cli.model_options import parse_model_options
from unistep.cli.outputs import check_file

if TYPE_CHECKING:
    from unistep.evaluation.samplers import Sweep
    from unistep.generation.generator import Generator

SAMPLES = 10_000
"""Samples for each row where nothing else is said."""
SolverName = Literal["heun", "euler", "dpmpp2m"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluate a model against real data: Fréchet distance, KID, precision and recall on named features, and speed.

    Its own conditions, such as --label, are options of a model too: unistep evaluate MODEL --help.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    teacher: str | None = None
    """Another model to evaluate beside it, usually its teacher."""
    data: str | None = None
    """The real data: fashion-mnist[:SPLIT], folder:PATH, npz:FILE or hf:NAME[:SPLIT], of sounds notes, phrases,
    drums or spoken-digits, or of videos moving-fashion, racing or doom. Without, the data that the model was
    trained on."""
    features: tuple[str, ...] = ()
    """Feature networks, a table for each: vicreg (learns from the data), random-convolutions[:SEED], scales,
    details, pixels, spectrum, fashion, fashion-vicreg, notes, notes-vicreg, moving-fashion, a directory,
    inception:FILE, dinov2:FILE, torchscript:FILE or module:PACKAGE:CALLABLE. Without, all that suit the data."""
    steps: tuple[int, ...] = ()
    """Sampling steps of the model, one row each; 1 2 4 for a one-step model (of these those that it was trained for,
    if not for all), 5 10 18 for a teacher without."""
    teacher_steps: tuple[int, ...] = (5, 10, 18)
    """Sampling steps of the teacher, one row each and for each solver."""
    solver: tuple[SolverName, ...] = ("heun", "dpmpp2m")
    """ODE solvers of a many-step model."""
    guidance: tuple[float, ...] = ()
    """Guidance weights, rows for each: of a many-step model (1, none, without) and of a one-step model that was
    trained for a range of them (its default without)."""
    speech: bool = False
    """Of speech: also the share of samples with speech by silero-vad, and how far their voices are from real ones by
    resemblyzer; needs pip install 'unistep[speech]', then pip install --no-deps resemblyzer."""
    max_bad: float = 0.2
    """Largest share of unusable files in the data, 0 to 1."""
    rollout: int | None = None
    """Of a world, whose frames depend on actions: frames to go on for beside recordings of play, in place of samples.
    PSNR, SSIM and distances of features over the frames, Fréchet distances, and whether actions are obeyed."""
    num: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Samples for each row, 10,000 without; with --rollout recordings, 16 without."""
    seed: int = 0
    """Seed of the first sample."""
    batch_size: int = 64
    """Samples that go through a model together."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the models: fp32, bf16, or auto for the faster."""
    json: Path | None = None
    """File for the whole report as JSON."""
    nearest: Path | None = None
    """Picture of samples with the items of the data nearest to them, and a table of how near they are: .png, .jpg or
    .webp. Of clips the table is there without."""
    plot: Path | None = None
    """File for a plot of quality against network calls, or with --rollout over the frames: .png, .svg or .pdf."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate, print the table, and write the files that were asked for."""
    given = parse_model_options(EvaluateOptions, "evaluate", arguments, "Evaluate a model against real data.")
    options = given.options
    if options.rollout is not None:
        if options.nearest is not None:
            raise ValueError("--nearest is of samples; leave it out with --rollout")
        return rollout(options, given.condition)
    if given.config.is_world:
        print(
            f"{options.model} goes on under what a player does, and samples begin from nothing and do nothing: "
            f"unistep evaluate {options.model} --rollout 1000 compares it with recordings of play",
            file=sys.stderr,
        )
    if "--guidance" in arguments and not options.guidance:
        raise ValueError("--guidance needs one or more numbers, such as 1 1.5")
    return _evaluate(options, given.condition)


def _evaluate(options: EvaluateOptions, condition: Mapping[str, str]) -> int:
    json = None if options.json is None else check_file(options.json, (".json",))
    plot = None if options.plot is None else check_file(options.plot, (".png", ".svg", ".pdf"))
    nearest = None if options.nearest is None else check_file(options.nearest, (".png", ".jpg", ".webp"))
    num = SAMPLES if options.num is None else options.num
    check_numbers(options, num)
    require("eval", "unistep evaluate", ("torchmetrics", "sklearn", "scipy"))
    if plot is not None:
        require("eval", "--plot", ("matplotlib",))
    from unistep import registry
    from unistep.cli.devices import choose_device
    from unistep.data import prepare
    from unistep.evaluation import evaluate, save_plot
    from unistep.evaluation.feature_loading import check_features
    from unistep.evaluation.nearest_metrics import NearestMetrics
    from unistep.evaluation.progress import display
    from unistep.evaluation.roles import feature_roles, load_networks
    from unistep.evaluation.sample_metrics import Applied, SampleMetrics
    from unistep.evaluation.speech import SpeechMetrics
    from unistep.hub.load import load

    for name in options.features:
        check_features(name)
    device = choose_device(options.device)
    names = [options.model, *([] if options.teacher is None else [options.teacher])]
    models = [load(name, device=device, precision=options.precision) for name in names]
    check_sampling(models, options.guidance, condition)
    networks = speech_networks(models[0]) if options.speech else None
    config = replace(data_for(models[0], options.data), max_bad=options.max_bad)
    reference = prepare(config)
    check_data(models, reference)
    held_out = test_split(config)
    test = None if held_out == config else prepare(held_out)
    with display(True, None) as bar:
        features = load_networks(
            options.features or feature_roles(reference).evaluation, reference, bar=bar, device=device
        )
    applied = Applied(
        reference=reference,
        test=test,
        fields=[model.config.fields for model in models],
        features=features,
        given=condition,
        num=num,
        seed=options.seed,
    )
    found = (kind.applied(applied) for kind in registry.entries("metrics").values())
    metrics: list[SampleMetrics] = [each for each in found if each is not None]
    if nearest is not None:
        metrics = [each for each in metrics if not isinstance(each, NearestMetrics)]
        metrics.append(NearestMetrics(reference, nearest))
    if networks is not None:
        metrics.append(SpeechMetrics(reference, networks))
    report = evaluate(
        models,
        reference,
        features=features,
        num=num,
        sweep=sweep(options, models[0]),
        test=test,
        seed=options.seed,
        batch_size=options.batch_size,
        condition=condition,
        metrics=metrics,
    )
    console = make_console(unfolded=True)
    for table in report.tables(console.width):
        console.print(table)
    if nearest is not None:
        print(f"written to {options.nearest}")
    if json is not None:
        report.save_json(json)
        print(f"written to {options.json}")
    if plot is not None:
        save_plot(report, plot)
        print(f"written to {options.plot}")
    return 0


def check_numbers(options: EvaluateOptions, num: int) -> None:
    """Refuse numbers that make no sense before anything is loaded.

    Args:
        options: What a person has given.
        num: Samples for each row.

    Raises:
        ValueError: Naming the option and the value.
    """
    from unistep.generation.model_config import MAX_STEPS

    for name, values in (("--steps", options.steps), ("--teacher-steps", options.teacher_steps)):
        for value in values:
            if not 1 <= value <= MAX_STEPS:
                raise ValueError(f"{name} must be from 1 to {MAX_STEPS}, got {value}")
    if not options.teacher_steps:
        raise ValueError("--teacher-steps needs one or more numbers, such as 5 10 18")
    if not options.solver:
        raise ValueError("--solver needs one or more of heun, euler, dpmpp2m")
    for weight in options.guidance:
        if not math.isfinite(weight):
            raise ValueError(f"--guidance must be finite, got {weight}")
    if num < 10:
        raise ValueError(f"--num must be at least 10 samples, got {num}; 10000 is usual")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    if not 0 <= options.seed <= 2**63 - 1 - num:
        raise ValueError(f"--seed must be from 0 to 2**63 - 1 - num, got {options.seed}")


def check_sampling(models: Sequence[Generator], guidance: Sequence[float], condition: Mapping[str, str]) -> None:
    """Refuse conditions and guidance that the models do not take, before the data is looked at.

    Raises:
        ValueError: Naming the model and the option.
    """
    from unistep.core.condition import GUIDANCE, asked, parse_condition

    guided = any(weight != 1 for weight in guidance)
    if guided and all(model.guidance is None for model in models):
        names = " and ".join(model.name for model in models)
        raise ValueError(
            f"--guidance is for many-step models and for those trained with guidance_range, not for {names}; "
            "name one with --teacher"
        )
    for model in models:
        field = model.config.fields.get(GUIDANCE)
        for weight in guidance if field is not None else ():
            try:
                field.parse("--guidance", weight, 1)  # type: ignore[union-attr]
            except ValueError as error:
                raise ValueError(f"{model.name}: {error}") from None
        if guided and model.kind == "denoiser" and not asked(model.config.fields):
            raise ValueError(f"{model.name} takes no condition that --guidance could strengthen; leave it at 1")
        try:
            parse_condition(model.config.fields, condition, 1)
        except ValueError as error:
            raise ValueError(f"{model.name}: {error}") from None


def sweep(options: EvaluateOptions, model: Generator) -> Sweep:
    """The settings to sample at, by kind of model."""
    from unistep.evaluation.samplers import Setting, usual_settings

    kind = model.kind
    many = options.steps if kind == "denoiser" and options.steps else options.teacher_steps
    few = [s.steps for s in usual_settings(model)] if kind != "denoiser" else [1, 2, 4]
    few = options.steps if kind != "denoiser" and options.steps else few
    weights: tuple[float | None, ...] = tuple(dict.fromkeys(options.guidance)) or (None,)
    one_step = tuple(Setting(steps=n, guidance=weight) for weight in weights for n in dict.fromkeys(few))
    return {
        "consistency": one_step,
        "flow_map": one_step,
        "denoiser": tuple(
            Setting(steps=n, solver=solver, guidance=weight)
            for solver in dict.fromkeys(options.solver)
            for weight in weights
            for n in dict.fromkeys(many)
        ),
    }
