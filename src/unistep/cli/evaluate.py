"""``unistep evaluate``: quality against network calls, for a model and its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from unistep.cli.console import make_console
from unistep.cli.extras import require
from unistep.cli.model_options import parse_model_options
from unistep.cli.outputs import check_file

if TYPE_CHECKING:
    from unistep.data import DataConfig, Dataset
    from unistep.evaluation.evaluator import Sweep
    from unistep.evaluation.speech_networks import SpeechNetworks
    from unistep.generation.generator import Generator
    from unistep.modalities.audio import AudioModality

SolverName = Literal["heun", "euler", "dpmpp2m"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Judge a model against real data: Fréchet distance, KID, precision and recall on named features, and speed.

    Its own conditions, such as --label, are options of a model too: unistep evaluate MODEL --help.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    teacher: str | None = None
    """Another model to judge beside it, usually its teacher."""
    data: str | None = None
    """The real pictures: fashion-mnist[:SPLIT], folder:PATH, npz:FILE or hf:NAME[:SPLIT]; or sounds: notes, phrases,
    drums, spoken-digits or folder:PATH. Without, fashion-mnist; notes; or phrases, for a sound without end."""
    features: str | None = None
    """Feature network: fashion, pixels, notes, spectrum, a directory, inception:FILE, torchscript:FILE or
    module:PACKAGE:CALLABLE. Without, fashion, notes of notes, and spectrum of other sounds."""
    steps: tuple[int, ...] = ()
    """Sampling steps of the model, one row each; 1 2 4 for a one-step model, 5 10 18 for a teacher without."""
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
    num: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10_000
    """Samples for each row."""
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
    plot: Path | None = None
    """File for a plot of quality against network calls: .png, .svg or .pdf."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate, print the table, and write the files that were asked for."""
    given = parse_model_options(EvaluateOptions, "evaluate", arguments, "Evaluate a model against real data.")
    options = given.options
    if "--guidance" in arguments and not options.guidance:
        raise ValueError("--guidance needs one or more numbers, such as 1 1.5")
    return _evaluate(options, given.condition)


def _evaluate(options: EvaluateOptions, told: Mapping[str, str]) -> int:
    json = None if options.json is None else check_file(options.json, (".json",))
    plot = None if options.plot is None else check_file(options.plot, (".png", ".svg", ".pdf"))
    check_numbers(options)
    require("eval", "unistep evaluate", ("torchmetrics", "sklearn", "scipy"))
    if plot is not None:
        require("eval", "--plot", ("matplotlib",))
    from unistep.cli.devices import choose_device
    from unistep.data import prepare
    from unistep.evaluation import evaluate, load_features, save_plot
    from unistep.evaluation.note_metrics import NoteMetrics
    from unistep.evaluation.speech import Speech
    from unistep.hub.load import load

    device = choose_device(options.device)
    names = [options.model, *([] if options.teacher is None else [options.teacher])]
    models = [load(name, device=device, precision=options.precision) for name in names]
    check_sampling(models, options.guidance, told)
    rate = getattr(models[0].modality, "sample_rate", None)
    networks = speech_networks(models[0]) if options.speech else None
    spec = options.features or usual_features(models[0])
    features = load_features(spec, shape=models[0].signal_shape, sample_rate=rate).to(device)
    config = replace(data_for(models[0], options.data), max_bad=options.max_bad)
    reference = prepare(config)
    _check_shapes(models, reference)
    test = prepare(test_split(config)) if test_split(config) != config else None
    report = evaluate(
        models,
        reference,
        features=features,
        num=options.num,
        sweep=sweep(options, models[0].kind),
        test=test,
        seed=options.seed,
        batch_size=options.batch_size,
        condition=told,
        hearing=None
        if test is None or told or not _notes(models, test)
        else NoteMetrics(test, features, options.num, options.seed),
        speech=None if networks is None else Speech(reference, networks),
    )
    console = make_console(unfolded=True)
    for table in report.tables(console.width):
        console.print(table)
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
    if options.num < 10:
        raise ValueError(f"--num must be at least 10 samples, got {options.num}; 10000 is usual")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    if not 0 <= options.seed <= 2**63 - 1 - options.num:
        raise ValueError(f"--seed must be from 0 to 2**63 - 1 - num, got {options.seed}")


def check_sampling(models: Sequence[Generator], guidance: Sequence[float], told: Mapping[str, str]) -> None:
    """Refuse what the models cannot be told, before the data is looked at.

    Raises:
        ValueError: Naming the model and the option.
    """
    from unistep.core.condition import GUIDANCE, parse_condition

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
        if guided and model.kind == "denoiser" and not model.config.fields:
            raise ValueError(f"{model.name} takes no condition that --guidance could strengthen; leave it at 1")
        try:
            parse_condition(model.config.fields, told, 1)
        except ValueError as error:
            raise ValueError(f"{model.name}: {error}") from None


def sweep(options: EvaluateOptions, kind: str) -> Sweep:
    """The settings to sample at, by kind of model."""
    from unistep.evaluation.evaluator import Setting

    many = options.steps if kind == "denoiser" and options.steps else options.teacher_steps
    few = options.steps if kind != "denoiser" and options.steps else (1, 2, 4)
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


def speech_networks(model: Generator) -> SpeechNetworks:
    """The networks of ``--speech``, before the data is looked at.

    Raises:
        ValueError: If speech cannot be heard in what the model makes, or the networks are not installed.
    """
    from unistep.evaluation.speech_networks import SpeechNetworks, check_rate
    from unistep.modalities.audio import AudioModality

    if not isinstance(model.modality, AudioModality):
        raise ValueError(f"--speech judges sounds, and {model.name} makes pictures")
    check_rate(model.modality.sample_rate, model.modality.samples)
    return SpeechNetworks()


def _learned(model: Generator, *kinds: str) -> str:
    """The source that a model was trained on, if it is of these kinds and is there; else nothing."""
    known = model.config.provenance.get("data", "")
    kind, _, rest = known.partition(":")
    return known if kind in kinds and (kind != "folder" or Path(rest).is_dir()) else ""


def _usual_sounds(model: Generator, modality: AudioModality) -> str:
    """The source of sounds that a model is judged against where none is named."""
    known = _learned(model, "notes", "drums", "phrases", "spoken-digits", "folder")
    if known:
        return known
    if model.config.context is not None:
        return "phrases"
    if "pitch" in model.config.fields:
        return "notes"
    raise ValueError(f"say with --data what the sounds of {model.name} should be like, such as folder:my_sounds")


def usual_features(model: Generator) -> str:
    """The shipped network that fits what a model makes: of notes that for notes, of other sounds none that learned."""
    return model.modality.default_features(model.config.fields)


def data_for(model: Generator, source: str | None) -> DataConfig:
    """The data in the shape of the model, where the source has none of its own.

    Without a source, the one that the model was trained on where that comes with the system; else fashion-mnist for
    pictures, notes for sounds with a pitch, and phrases for those without end.

    Raises:
        ValueError: If nothing is known that could be the model's data.
    """
    from unistep.data import data_config
    from unistep.modalities.audio import AudioModality

    modality = model.modality
    if isinstance(modality, AudioModality):
        shape = {"channels": modality.channels, "sample_rate": modality.sample_rate, "seconds": modality.seconds}
        cut = "windows" if model.config.context is not None else "start"
        return data_config(source or _usual_sounds(model, modality), modality="audio", cut=cut, **shape)
    source = source or _learned(model, "folder") or "fashion-mnist"
    if source.partition(":")[0] == "fashion-mnist":
        return data_config(source)
    channels, height, width = modality.shape
    return data_config(source, channels=channels, size=height if height == width else None)


def test_split(config: DataConfig) -> DataConfig:
    """The held-out part that shows how good a perfect model would be; the same data where there is none."""
    from dataclasses import replace

    name, *parts = config.source.split(":")
    if name not in ("fashion-mnist", "notes", "phrases") or {"test", "excerpt"} & {config.split, *parts}:
        return config
    return replace(config, source=":".join([name, *(part for part in parts if part != "train")]), split="test")


def _notes(models: Sequence[Generator], test: Dataset) -> bool:
    """Whether these are notes, and the models are told what is known of them."""
    known = set(test.fields)
    return {"instrument", "pitch", "velocity"} <= known and all(known == set(model.config.fields) for model in models)


def _check_shapes(models: Sequence[Generator], reference: Dataset) -> None:
    """Say now what would come out after the first samples."""
    for model in models:
        if getattr(model.modality, "sample_rate", None) != reference.sample_rate:
            made, real = (
                "pictures" if rate is None else f"sounds at {rate} Hz"
                for rate in (getattr(model.modality, "sample_rate", None), reference.sample_rate)
            )
            raise ValueError(f"{model.name} makes {made}, {reference.source} has {real}; use matching data")
        if model.signal_shape != reference.shape:
            made, real = ("x".join(map(str, shape)) for shape in (model.signal_shape, reference.shape))
            raise ValueError(f"{model.name} makes samples of {made}, {reference.source} has {real}; use matching data")
