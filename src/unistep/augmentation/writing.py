"""Synthetic items on disk: a folder or shards, a manifest of every item, and a report on copies with the pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unistep.augmentation.classes import class_folders
from unistep.augmentation.memorisation import Memorisation, summary
from unistep.augmentation.synthetic import Synthesis, Synthesizer
from unistep.data.sources.paths import printable
from unistep.files import remove_unfinished, replacing_folder, unwritable
from unistep.generation.saving import model_hash
from unistep.generation.shards import NAME, ShardItem, item_files, write_shard
from unistep.modalities.writing import write_picture
from unistep.provenance import COMPOSITE, TRAINED, Provenance, Signing, mark_content

ITEMS, MANIFEST, REPORT, PAIRS = "items", "manifest.jsonl", "report.md", "pairs.png"
"""Names inside the folder."""
SHOWN = 12
"""Pairs of the report."""


@dataclass(frozen=True, kw_only=True)
class WritingOptions:
    """How items are written."""

    shard_size: int | None = None
    """Items in each tar shard; single files in a folder for each class without."""
    marked: bool = True
    """Whether files say that a model made them."""
    signing: Signing | None = None
    """Signs each file."""


def check_target(out: Path) -> None:
    """Find out whether a folder can be made.

    Raises:
        ValueError: If something is there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"cannot write into {out}: it is not empty; give a new folder")


def write_augmentation(
    out: Path, synthesizer: Synthesizer, made: Synthesis, options: WritingOptions
) -> list[Mapping[str, Any]]:
    """Write items, manifest and report; all of them or, where that fails, nothing.

    Args:
        out: The folder, which must be new or empty.
        synthesizer: What made them.
        made: The items.
        options: How.

    Returns:
        The rows of the report, one for each class.

    Raises:
        ValueError: If they cannot be written; a :class:`~unistep.files.DiskError` on a full disk.
    """
    rows: list[Mapping[str, Any]] = []
    try:
        remove_unfinished(out)
        with replacing_folder(out) as temporary:
            lines, items = [], []
            for name, item, facts in _items(synthesizer, made, options):
                lines.append(json.dumps(facts, ensure_ascii=False))
                if options.shard_size is not None:
                    items.append(item)
                else:
                    place = temporary / facts["file"]
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(item.files[name])
            if options.shard_size is not None:
                _write_shards(temporary, items, options.shard_size)
            (temporary / MANIFEST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            if synthesizer.memorisation is not None:
                rows = _write_report(temporary, synthesizer, synthesizer.memorisation, made, options)
    except OSError as error:
        raise unwritable(f"cannot write {out}: {error.strerror or error}", error) from None
    return rows


def _write_shards(folder: Path, items: Sequence[ShardItem], size: int) -> None:
    for number in range(math.ceil(len(items) / size)):
        write_shard(folder / NAME.format(number), items[number * size : (number + 1) * size])


def _items(
    synthesizer: Synthesizer, made: Synthesis, options: WritingOptions
) -> Iterator[tuple[str, ShardItem, dict[str, Any]]]:
    """The ending of each item's file, the item, and its line of the manifest."""
    generator, data = synthesizer.generator, synthesizer.data
    modality, weights = generator.modality, model_hash(generator)
    suffix = Path(modality.example).suffix
    numbers, folders = dict.fromkeys(data.present, 0), class_folders(data.names)
    for row in range(len(made)):
        one, seed, origin = int(made.index[row]), int(made.seeds[row]), int(made.origin[row])
        condition = {synthesizer.matched.field: data.names[one]}
        known = Provenance(
            model=generator.name,
            model_hash=weights,
            seeds=(seed,),
            conditions=(condition,),
            source_type=COMPOSITE if origin >= 0 else TRAINED,
            signing=options.signing,
        )
        content = mark_content(modality.encode(made.x[row], suffix), suffix, known if options.marked else None)
        file = f"{ITEMS}/{folders[one]}/{numbers[one]:06d}{suffix}"
        numbers[one] += 1
        facts: dict[str, Any] = {
            "file": file if options.shard_size is None else f"{NAME.format(row // options.shard_size)}:{row:09d}",
            "class": data.names[one],
            "seed": seed,
            "model": generator.name,
            "model_hash": weights,
        }
        if origin >= 0:
            facts |= {"variation of": origin, "strength": synthesizer.strength}
        if math.isfinite(made.distance[row]):
            facts |= {"distance": float(f"{made.distance[row]:.6g}"), "nearest": int(made.near[row])}
        yield suffix, ShardItem(key=f"{row:09d}", files=item_files(suffix, content, facts, one)), facts


def _write_report(
    folder: Path, synthesizer: Synthesizer, memorisation: Memorisation, made: Synthesis, options: WritingOptions
) -> list[Any]:
    whole = Synthesis.joined([made, *synthesizer.dropped])
    copies = np.arange(len(whole)) >= len(made)
    rows = summary(memorisation, whole.distance, whole.index, copies)
    limits = np.asarray([memorisation.classes[int(one)].limit for one in whole.index])
    nearest = np.argsort(whole.distance / np.maximum(limits, 1e-12))[:SHOWN]
    generator, data = synthesizer.generator, synthesizer.data
    sheet = generator.modality.contact_sheet(
        [
            ("samples", whole.x[nearest.tolist()]),
            ("the nearest\ntraining items", memorisation.train.signals(whole.near[nearest])),
        ]
    )
    seeds = tuple(int(whole.seeds[row]) for row in nearest)
    known = Provenance(
        model=generator.name,
        model_hash=model_hash(generator),
        seeds=seeds,
        source_type=COMPOSITE,
        signing=options.signing,
    )
    write_picture(sheet, folder / PAIRS, known if options.marked else None)
    reference = "held-out items" if memorisation.from_held_out else "training items, each without itself,"
    pairs = [
        f"| {place} | {_cell(data.names[int(whole.index[row])])} | {int(whole.seeds[row])} | {int(whole.near[row])} "
        f"| {whole.distance[row] / max(limits[row], 1e-12):.2f} | {'dropped' if copies[row] else 'kept'} |"
        for place, row in enumerate(nearest, start=1)
    ]
    text = [
        "# Memorisation",
        "",
        f"{len(made):,} items of {generator.name} kept, {int(copies.sum()):,} dropped as near-copies. Distances are to",
        f"the nearest training item of the class in {memorisation.features.label}; the reference is {reference} to",
        "train.",
        "A near-copy is nearer than 1 % of those are. Dropping near-copies is no guarantee of privacy.",
        "",
        *table(rows),
        "",
        f"The nearest pairs, of which {PAIRS} shows the samples above and the training items below:",
        "",
        "| pair | class | seed | training item | distance / limit | |",
        "|---:|---|---:|---:|---:|---|",
        *pairs,
    ]
    (folder / REPORT).write_text("\n".join(text) + "\n", encoding="utf-8")
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as lines of a Markdown table."""
    if not rows:
        return []
    heads = list(rows[0])
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join('---' if i == 0 else '---:' for i in range(len(heads)))}|"]
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else _cell(f"{value}") for value in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    """A text as a cell of a table: no name of a class can break its line, or move the cursor."""
    return printable(text).replace("|", "\\|")
