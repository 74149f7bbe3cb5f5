"""``unistep augment``: synthetic items for a data set of classes, and whether they help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unistep.cli.console import progress
from unistep.cli.marking import MarkingOptions, read_signing
from unistep.cli.parse import parse
from unistep.files import checked_path

if TYPE_CHECKING:
    from unistep.augmentation import ClassedData, Synthesizer
    from unistep.data import Dataset
    from unistep.generation.generator import Generator


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(MarkingOptions):
    """Make synthetic items of the classes of a data set, as many of each, without near-copies of real ones; or, with
    --measure, find out whether they help a classifier.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub. With
    --budget what is trained further on the training part; `new` for nothing."""
    data: str
    """The real items, such as folder:TRAIN with a folder for each class."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """A new folder: items/CLASS/, manifest.jsonl with seed, model and class of each, report.md and pairs.png; with
    --measure measure.md and measure.json."""
    held_out: str | None = None
    """Real items that the model has not seen, such as folder:TEST. Without, the test split of a source that has one;
    else a part of --data that is split off first (--measure), or each real item against the others."""
    field: str | None = None
    """Which condition of the model the classes are, and of the data where it has such; label without."""
    each: int | None = None
    """Synthetic items of each class; as many as there are real ones in the mean, without."""
    vary: float = 0.0
    """Share of the items that are variations of real ones (unistep edit vary), from 0 to 1."""
    strength: float = 0.35
    """How much variations differ, from 0 to 1."""
    features: str | None = None
    """Feature network in which distances are measured; without, the one by which models of such data are selected."""
    keep_copies: bool = False
    """Do not look for near-copies, and do not drop any."""
    shard_size: int | None = None
    """Items in each tar shard, in the layout of webdataset; single files without."""
    steps: int | None = None
    """Sampling steps; the model's default without."""
    guidance: float | None = None
    """Guidance weight; the model's default without."""
    seed: int = 0
    """Seed of the first item, and of the split."""
    batch_size: int = 64
    """Items that go through the network together."""
    measure: bool = False
    """Train small classifiers on real items, with classical augmentation, and with synthetic ones, at equal steps, and
    say whether the synthetic ones help."""
    budget: str | None = None
    """With --measure: train the generator on the training part alone for as long, such as 5m or 200k items."""
    method: str = "ect"
    """With --budget: the recipe it is trained by."""
    real: tuple[int, ...] = ()
    """With --measure: real items of each class, one or several numbers such as 10 100; all without."""
    multiples: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """With --measure: synthetic items for each real one."""
    classifiers: int = 5
    """With --measure: classifiers of each kind, with seeds of their own."""
    classifier_steps: int = 600
    """With --measure: optimiser steps of each classifier."""
    tested: int = 2000
    """With --measure: held-out items that classifiers are tested on, at most."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of networks: fp32, the same on every device; bf16, faster where there are units for it; or auto."""


def run(arguments: Sequence[str]) -> int:
    """Make the items, or measure."""
    options = parse(AugmentOptions, "augment", arguments)
    from unistep.augmentation.writing import check_target
    from unistep.cli.outputs import check_folder

    out = check_folder(checked_path(options.out))
    _check(options)
    if options.measure:
        from unistep.cli.augment_measure import run_measure

        return run_measure(options, out)
    check_target(out)
    _make(options, out)
    return 0


def _check(options: AugmentOptions) -> None:
    """Refuse numbers that cannot be, before anything is loaded."""
    for name in ("each", "shard_size", "classifiers", "classifier_steps", "tested", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not 0 <= options.seed <= 2**62:
        raise ValueError(f"--seed must be from 0 to 2**62, got {options.seed}")
    if any(number < 2 for number in options.real):
        raise ValueError(f"--real must be at least 2 items of each class, got {min(options.real)}")
    for name, value in {"vary": options.vary, "strength": options.strength}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"--{name} must be a share from 0 to 1, got {value:g}")
    if options.vary > 0 and options.strength == 0:
        raise ValueError("--strength must be above 0: variations of strength 0 are the real items themselves")
    only = {"--budget": options.budget, "--real": options.real}
    misplaced = [name for name, value in only.items() if value and not options.measure]
    if misplaced:
        raise ValueError(f"{misplaced[0]} belongs to --measure")


def load_model(options: AugmentOptions) -> Generator:
    """The model that was named."""
    from unistep.cli.devices import choose_device
    from unistep.hub.load import load

    return load(options.model, device=choose_device(options.device), precision=options.precision)


def read_data(generator: Generator, options: AugmentOptions) -> tuple[ClassedData, ClassedData | None]:
    """The real items and those held out, where they are data of their own.

    Raises:
        ValueError: If they cannot be read, are other signals than the model's, or have no classes.
    """
    from unistep.cli.evaluation_data import check_data, data_for, test_split
    from unistep.data import prepare

    config = data_for(generator, options.data)
    dataset = prepare(config)
    check_data([generator], dataset)
    other = data_for(generator, options.held_out) if options.held_out is not None else test_split(config)
    train = classed(dataset, options)
    if other == config:
        return train, None
    held_out = prepare(other)
    check_data([generator], held_out)
    return train, aligned(classed(held_out, options), train)


def classed(dataset: Dataset, options: AugmentOptions) -> ClassedData:
    """The items that have a class."""
    from unistep.augmentation import ClassedData

    return ClassedData.of(dataset, options.field if options.field in dataset.fields else None)


def aligned(data: ClassedData, like: ClassedData) -> ClassedData:
    """The classes of some data with the numbers that they have in other data, by name.

    Raises:
        ValueError: If there is a class that the other has not.
    """
    import numpy as np

    from unistep.augmentation import ClassedData

    numbers = {}
    for one in data.present:
        if data.names[one] not in like.names:
            raise ValueError(
                f"{data.dataset.source} has a class {data.names[one]!r}, which {like.dataset.source} has not"
            )
        numbers[one] = like.names.index(data.names[one])
    index = np.asarray([numbers[int(one)] for one in data.index], np.int64)
    return ClassedData(dataset=data.dataset, field=like.field, names=like.names, index=index)


def find_features(generator: Generator, options: AugmentOptions, data: ClassedData) -> Any:
    """The network in which distances are measured."""
    from unistep.evaluation.feature_loading import load_features

    name = options.features or generator.modality.feature_roles().selection
    return load_features(name, generator.modality, data=data.dataset)


def synthesizer_for(
    generator: Generator, options: AugmentOptions, real: ClassedData, held_out: ClassedData | None
) -> Synthesizer:
    """What makes items of the classes of real ones.

    Args:
        generator: The model.
        options: What was typed.
        real: The real items.
        held_out: Items that the model never saw, for comparison with near-copies; none without.

    Raises:
        ValueError: If the model has not all classes.
    """
    from unistep.augmentation import Memorisation, Synthesizer, match_classes
    from unistep.augmentation.classes import class_folders

    # A model that was trained on a part has the field of the part's folders, and their names as classes.
    own = options.budget is None or options.field in generator.config.fields
    named = real if options.budget is None else replace(real, names=tuple(class_folders(real.names)))
    matched = match_classes(named, generator.config.fields, generator.name, options.field if own else None)
    copies = None
    if not options.keep_copies:
        copies = Memorisation(real, held_out, find_features(generator, options, real))
    return Synthesizer(
        generator,
        real,
        matched,
        memorisation=copies,
        vary=options.vary,
        strength=options.strength,
        seed=options.seed,
        batch_size=options.batch_size,
        steps=options.steps,
        guidance=options.guidance,
    )


def _make(options: AugmentOptions, out: Path) -> None:
    from unistep.augmentation.writing import PAIRS, REPORT, WritingOptions, table, write_augmentation

    generator = load_model(options)
    signing = read_signing(options, Path(generator.modality.example).suffix)
    train, held_out = read_data(generator, options)
    synthesizer = synthesizer_for(generator, options, train, held_out)
    each = options.each or max(1, round(len(train) / len(train.present)))
    with progress("sampling") as update:
        made = synthesizer.make(dict.fromkeys(train.present, each), update)
    writing = WritingOptions(shard_size=options.shard_size, marked=not options.unmarked, signing=signing)
    rows = write_augmentation(out, synthesizer, made, writing)
    dropped = sum(len(part) for part in synthesizer.dropped)
    print(seen_line(generator))
    print(f"{len(made):,} items of {len(train.present)} classes, {dropped:,} near-copies dropped")
    for line in table(rows):
        print(line)
    missing = each * len(train.present) - len(made)
    if missing:
        print(f"{missing:,} items are missing: too many samples of their classes were near-copies")
    more = f", {REPORT} and {PAIRS}" if rows else ""
    print(f"written to {out}: items, manifest.jsonl{more}")


def seen_line(generator: Generator) -> str:
    """Which data a model saw, as far as it says."""
    known = generator.config.provenance
    items = known.get("items", "")
    what = known.get("data", "")
    if not what:
        return f"{generator.name} does not say which data it was trained on"
    return f"{generator.name} was trained on {what}" + (f" ({items} items drawn)" if items else "")
