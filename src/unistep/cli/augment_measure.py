"""``unistep augment --measure``: whether synthetic items help a classifier, which may come out as no."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.cli.console import progress
from unistep.files import write_text

if TYPE_CHECKING:
    from unistep.augmentation import ClassedData, Measurement, ProtocolOptions
    from unistep.cli.augment import AugmentOptions
    from unistep.generation.generator import Generator

HELD_OUT = 0.3
"""Share of data without a test split that classifiers are tested on."""


def run_measure(options: AugmentOptions, out: Path) -> int:
    """Split, train or take the generator, and compare for each number of real items."""
    import torch

    from unistep.augmentation import ProtocolOptions
    from unistep.augmentation.classifier import ClassifierOptions
    from unistep.evaluation.hardware import hardware
    from unistep.precision import resolve_precision

    precision = resolve_precision(options.precision, torch.device("cpu"))
    protocol = ProtocolOptions(
        multiples=tuple(sorted(options.multiples)),
        seeds=options.classifiers,
        classifier=ClassifierOptions(steps=options.classifier_steps, precision=precision),
    )
    shape, train, test = _split(options)
    out.mkdir(parents=True, exist_ok=True)
    found: list[Measurement] = []
    notes: list[dict[str, Any]] = []
    report = ""
    for each in options.real or (None,):
        real = train if each is None else train.few(each, options.seed)
        count = min(real.counts.values())
        generator, seen = _generator(options, real, shape, out / f"{count}-each")
        print(seen)
        synthetic, dropped = _synthetic(options, protocol, generator, real, test)
        from unistep.augmentation import measure

        with progress("classifiers") as update:
            result = measure(real, test, synthetic, protocol, update)
        found.append(result)
        notes.append({"generator": seen, "near-copies dropped": dropped})
        print(f"{count} real items of each class: {result.recommendation}")
        report = text_of(found, notes, protocol, f"{train.dataset.source}, {hardware('cpu')}, {precision}")
        write_text(out / "measure.md", report)
        write_text(
            out / "measure.json", json.dumps(_plain(found, notes, protocol), indent=1, ensure_ascii=False) + "\n"
        )
    print()
    print(report)
    print(f"written to {out}: measure.md, measure.json")
    return 0


def _split(options: AugmentOptions) -> tuple[Any, ClassedData, ClassedData]:
    """The training part and the part to test on, before any model is trained."""
    from unistep.augmentation.part import NEW
    from unistep.cli.augment import aligned, classed, load_model, read_data
    from unistep.cli.evaluation_data import test_split
    from unistep.data import data_config, prepare

    if options.model == NEW:
        if options.budget is None:
            raise ValueError("a new generator needs --budget, such as --budget 5m")
        config = data_config(options.data)
        train = classed(prepare(config), options)
        other = test_split(config) if options.held_out is None else data_config(options.held_out)
        held_out = None if other == config else aligned(classed(prepare(other), options), train)
        model = None
    else:
        model = load_model(options)
        train, held_out = read_data(model, options)
    if held_out is None:
        train, held_out = train.split(HELD_OUT, options.seed)
    train.check_counts(2, "--measure")
    return model, train, held_out.at_most(options.tested, options.seed)


def _generator(options: AugmentOptions, real: ClassedData, model: Any, folder: Path) -> tuple[Generator, str]:
    """The generator, and what it has seen in words."""
    from unistep.augmentation.part import NEW, train_on_part
    from unistep.cli.augment import seen_line
    from unistep.recipes import recipe

    if options.budget is None:
        return model, (
            f"{seen_line(model)}: if those are more than the {len(real):,} real items here, a gain is also due to them"
        )
    init = None if options.model == NEW else options.model
    changes: dict[str, Any] = {"budget": options.budget, **({} if init is None else {"init": init})}
    print(f"training a generator on {len(real):,} items of the training part alone: {options.method}, {options.budget}")
    trained = train_on_part(real, folder, lambda config: recipe(options.method, config, **changes))
    trained.to(trained.device, options.precision)
    before = "" if init is None else f", from {init}, which had seen data of its own: {seen_line(model)}"
    return trained, f"the generator was trained on the {len(real):,} real items of the training part alone{before}"


def _synthetic(
    options: AugmentOptions, protocol: ProtocolOptions, generator: Generator, real: ClassedData, test: ClassedData
) -> tuple[Any, int]:
    """Synthetic items without near-copies, as many as the largest multiple takes, and how many copies were dropped."""
    from unistep.augmentation.protocol import needed
    from unistep.cli.augment import synthesizer_for

    synthesizer = synthesizer_for(generator, options, real, test)
    with progress("sampling") as update:
        made = synthesizer.make(needed(real, protocol.multiples), update)
    return made, sum(len(part) for part in synthesizer.dropped)


def text_of(found: list[Measurement], notes: list[dict[str, Any]], protocol: ProtocolOptions, where: str) -> str:
    """The report in Markdown."""
    from unistep.augmentation.writing import table

    rows, lines = [], []
    for result, note in zip(found, notes, strict=True):
        arms = {name: f"{100 * gain.value:.2f} ± {100 * gain.margin:.2f}" for name, gain in result.accuracy.items()}
        extra = "none" if result.equivalent is None else _rounded(result.equivalent)
        rows.append({"real a class": result.each, **arms, "equivalent extra real": extra})
        lines.append(
            f"- {result.each} real items a class: **{result.recommendation}**. {note['generator']}. "
            f"{note['near-copies dropped']:,} near-copies dropped."
        )
    last = found[-1]
    classes = [
        {"class": name, **{arm: 100 * shares[name] for arm, shares in last.per_class.items()}}
        for name in next(iter(last.per_class.values()))
    ]
    settings = protocol.classifier
    return "\n".join(
        [
            "# Does augmentation help?",
            "",
            "Accuracy in percent of small classifiers, with 95 % intervals over their seeds and the test items:",
            "",
            *table(rows),
            "",
            *lines,
            "",
            f"Per class, with {last.each} real items each:",
            "",
            *table(classes),
            "",
            f"{protocol.seeds} classifiers of each kind, {settings.steps} steps of {settings.batch_size} items, tested "
            f"on {last.test:,} items that neither they nor, where it was trained here, the generator saw. `+1x` has "
            "classical augmentation and one synthetic item for each real one. Gains are over the better of real items "
            "alone and classical augmentation, with intervals that hold for all multiples at once. Equivalent extra "
            f"real items are extrapolated from what the second half of the real ones gave. {where}.",
            "",
        ]
    )


def _rounded(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}"


def _plain(found: list[Measurement], notes: list[dict[str, Any]], protocol: ProtocolOptions) -> dict[str, Any]:
    results = [
        {**asdict(result), "helps": result.helps, "recommendation": result.recommendation, **note}
        for result, note in zip(found, notes, strict=True)
    ]
    return {"protocol": asdict(protocol), "results": results}
