"""Decoding every item of a source into the cache, with a summary of what became of each."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unistep import registry
from unistep.core.condition import AnyField
from unistep.data.cache import CacheWriter, skipped_listing, writing
from unistep.data.decoding import outcomes
from unistep.data.fingerprints import described_fields, plain_fields
from unistep.data.labels import KINDS, count_classes, number_kin, number_labels
from unistep.data.options import DataConfig
from unistep.data.progress import progress_bar
from unistep.data.sources.base import Item, Label, SourceManifest
from unistep.data.sources.paths import printable
from unistep.data.summary import Skipped, Summary, with_article
from unistep.data.windows import WINDOW, WindowIndex
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.recording import Recording
from unistep.modalities.unusable import UnusableFileError

_NAMED = 3  # items that a remark names
_AT_ONCE = 256  # items whose reference signals are converted together


def build(path: Path, key: str, name: str, manifest: SourceManifest, config: DataConfig, *, progress: bool) -> None:
    """Decode the items of a source into a folder of the cache.

    Args:
        path: The folder to write.
        key: What it is made from.
        name: The source, for messages.
        manifest: The items.
        config: Gives the options and the share of bad files allowed.
        progress: Whether to show a bar on standard error.

    Raises:
        ValueError: If none is good, too many are bad, labels make no sense, or the folder cannot be written.
    """
    kind: type[Modality] = registry.lookup("modality", manifest.modality)
    with writing(path) as writer, progress_bar(name, manifest.count, progress) as advance, warnings.catch_warnings():
        # Pillow warns of what the summary says: odd EXIF blocks, palettes, and sizes that our own limit looks after.
        warnings.simplefilter("ignore")
        items = _Items(manifest, kind.noun, writer)
        bad, most = 0, config.max_bad * (manifest.files or manifest.count)
        for item, outcome in outcomes(manifest):
            if isinstance(outcome, UnusableFileError):
                bad += items.skip(item, outcome)
                if bad > most:
                    break  # however good the rest is
                advance(1)
            else:
                advance(items.add(item, outcome))
        modality = kind.fitted(config.options_for(manifest.modality), items.shape)
        numbers, names = number_labels(items.labels, manifest.label_names)
        summary = Summary(
            source=name,
            good=len(items.labels),
            noun=modality.noun,
            each=modality.described,
            skipped=tuple(items.skipped),
            notes=tuple(items.notes.most_common()),
            examples=tuple((note, tuple(named)) for note, named in items.examples.items()),
            classes=count_classes(numbers, names),
            files=manifest.files,
        )
        check_quality(summary, config.max_bad, complete=bad <= most)
        _list_skipped(summary, skipped_listing(writer.folder))
        if numbers is not None:
            writer.add("label.index", numbers)
        for field, spec in manifest.fields.items():
            writer.add_columns(field, items.columns_of(field, spec, modality))
        items.add_windows()
        description = {
            "key": key,
            "modality": manifest.modality,
            "shape": list(items.shape),
            "label_names": list(names),
            "fields": plain_fields(manifest.fields),
            "summary": asdict(summary),
            "licence": manifest.licence,
            **({WINDOW: items.shape[1]} if manifest.windowed else {}),
            **({KINDS: number_kin(items.kin)} if any(name is not None for name in items.kin) else {}),
        }
        described = [described_fields(manifest.fields)] if manifest.fields else []
        shape = [len(items.labels), *items.shape]
        writer.finish(description, [shape, list(names), numbers is not None, *modality.meaning, *described])


class _Items:
    """Collects the items of a source while they are written.

    Args:
        manifest: The source's items.
        noun: What one is called.
        writer: Takes their values.
    """

    def __init__(self, manifest: SourceManifest, noun: str, writer: CacheWriter) -> None:
        self._manifest, self._noun, self._writer = manifest, noun, writer
        # One channel until an item comes whose channels differ.
        self._channels = 1 if manifest.one_channel_if_equal else manifest.shape[0]
        self._index = WindowIndex(manifest.shape[1]) if manifest.windowed else None
        self.labels: list[Label] = []
        self.kin: list[str | None] = []
        self.conditions: dict[str, list[Any]] = {field: [] for field in manifest.fields}
        self.skipped: list[Skipped] = []
        self.notes: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every item."""
        return (self._channels, *self._manifest.shape[1:])

    def skip(self, item: Item, reason: UnusableFileError) -> bool:
        """Note a file that cannot be used; whether it counts as bad."""
        bad = item.expected_type or reason.recognised
        text = str(reason) if bad else f"not {with_article(self._noun)}"
        self.skipped.append(Skipped(name=item.name, reason=text, bad=bad))
        return bad

    def add(self, item: Item, found: Decoded | Recording) -> int:
        """Write an item, or a whole recording; how many items that makes."""
        conditions = item.conditions
        if isinstance(found, Recording):
            count = self._add_recording(found)
            conditions = found.conditions or conditions
        else:
            self._add_values(found.values)
            count = 1
        self.labels += [item.label] * count
        self.kin += [item.kin] * count
        references = found.references if isinstance(found, Decoded) else {}
        for condition in conditions or (item.condition,) * count:
            for field, column in self.conditions.items():
                column.append(references[field] if field in references else condition.get(field))
        self.notes.update(found.notes)
        for note in found.notes:
            self.examples.setdefault(note, []).append(item.name)
            del self.examples[note][_NAMED:]
        return count

    def columns_of(self, field: str, spec: AnyField, modality: Modality) -> Iterator[dict[str, np.ndarray]]:
        """A condition, some items at a time: reference signals take much more memory than stored ones."""
        column, signals = self.conditions[field], spec.kind == "signal"
        for start in range(0, max(1, len(column)), _AT_ONCE):
            some = column[start : start + _AT_ONCE]
            yield spec.to_columns(field, [_signal(value, modality) for value in some] if signals else some)

    def add_windows(self) -> None:
        """Write where windows lie."""
        if self._index is not None:
            for name, column in self._index.windows().arrays().items():
                self._writer.add(name, column)

    def _add_values(self, values: np.ndarray) -> None:
        if self._channels < len(values):
            if (values == values[:1]).all():
                values = values[:1]
            else:
                self._writer.widen(len(values))
                self._channels = len(values)
        self._writer.append(values[None])

    def _add_recording(self, found: Recording) -> int:
        if self._index is None:
            raise RuntimeError("a recording came from a source that has none")
        total = 0
        for block in found.blocks:
            self._writer.append(block)
            total += len(block)
        self._index.add(found.starts, found.slack, total)
        return len(found.starts)


def _signal(value: Any, modality: Modality) -> Any:
    """A stored reference signal as the network's data; one that is a file's name, or none, as it is."""
    return modality.to_signal(torch.from_numpy(value)) if isinstance(value, np.ndarray) else value


def _list_skipped(summary: Summary, path: Path) -> None:
    """Name every skipped file beside the cache, where there are any."""
    if summary.skipped:
        path.write_text("".join(f"{printable(line)}\n" for line in summary.skipped_lines()), encoding="utf-8")


def check_quality(summary: Summary, max_bad: float, *, complete: bool = True) -> None:
    """Refuse a source with no good item, or with too many bad ones; ``complete`` is whether all were looked at.

    Raises:
        ValueError: Naming the first bad files and the most frequent reasons.
    """
    bad = [item for item in summary.skipped if item.bad]
    seen = summary.files or summary.good + len(bad)
    some = ", ".join(f"{item.name} ({item.reason})" for item in (bad or summary.skipped)[:3])
    more = f" and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    if summary.good == 0 and complete:
        raise ValueError(f"{summary.source} has no usable {summary.noun}: {some or 'it is empty'}{more}")
    if len(bad) > max_bad * seen:
        raise ValueError(
            f"{summary.source} has too many unusable {summary.noun}s, {len(bad):,} of {seen:,} looked at, where "
            f"max_bad allows {max_bad:.0%}: {some}{more}; remove them, or allow more (train: --data.max-bad, evaluate: "
            "--max-bad)"
        )
