"""Decoding every picture or sound of a source into a cache file, with a summary of what became of each."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unistep.core.condition import ConditionValue
from unistep.data.cache import CacheWriter, skipped_listing, to_plain_fields
from unistep.data.options import DataConfig
from unistep.data.source import Item, Label, SourceManifest
from unistep.data.summary import Skipped, Summary, printable
from unistep.files import write_text
from unistep.modalities.audio_reading import Sound
from unistep.modalities.image_reading import Picture
from unistep.modalities.unusable import UnusableFileError

_MOST_CLASSES = 100_000
_NAMED = 3  # sounds that a remark names
_LOOK_AHEAD = 4  # items per thread that may wait to be written


def build(path: Path, key: str, name: str, contents: SourceManifest, config: DataConfig, *, progress: bool) -> None:
    """Decode ``contents`` into a cache file.

    Args:
        path: The file to write.
        key: What the file is made from.
        name: The source, for messages.
        contents: The pictures or sounds.
        config: Gives the share of bad files allowed.
        progress: Whether to show a bar on standard error.

    Raises:
        ValueError: If none is good, too many are bad, labels make no sense, or the file cannot be written.
    """
    labels: list[Label] = []
    told: dict[str, list[ConditionValue]] = {field: [] for field in contents.fields}
    skipped: list[Skipped] = []
    notes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    noun = "picture" if contents.sample_rate is None else "sound"
    channels = contents.shape[0]
    if contents.may_be_grey:
        channels = 1  # until a picture with colours comes
    with CacheWriter(path) as writer, _bar(name, contents.count, progress) as advance, warnings.catch_warnings():
        # Pillow warns of what the summary says: odd EXIF blocks, palettes, and sizes that our own limit looks after.
        warnings.simplefilter("ignore")
        bad, complete = 0, True
        for item, outcome in _outcomes(contents):
            advance()
            if isinstance(outcome, UnusableFileError):
                is_bad = item.expected_type or outcome.recognised
                skipped.append(Skipped(name=item.name, reason=str(outcome) if is_bad else f"not a {noun}", bad=is_bad))
                bad += is_bad
                if bad > config.max_bad * (contents.files or contents.count):
                    complete = False
                    break  # however good the rest is
                continue
            values = outcome.values
            if channels < len(values):
                if (values == values[:1]).all():
                    values = values[:1]
                else:
                    writer.repeat_items(values[0].nbytes, len(values))
                    channels = len(values)
            writer.write(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
            labels.append(item.label)
            for field, column in told.items():
                column.append(item.condition[field])
            notes.update(outcome.notes)
            if contents.sample_rate is not None:
                for note in outcome.notes:
                    examples.setdefault(note, []).append(item.name)
                    del examples[note][_NAMED:]
        numbers, names = number_labels(labels, contents.label_names)
        if numbers is not None:
            writer.write(numbers.astype("<i8").tobytes())
        columns = {}
        for field, spec in contents.fields.items():
            (column,) = spec.parse(field, told[field], len(labels)).arrays().values()
            column = column.astype(column.dtype.newbyteorder("<"), copy=False)
            writer.write(column.tobytes())
            columns[field] = column.dtype.str
        summary = Summary(
            source=name,
            good=len(labels),
            shape=(channels, *contents.shape[1:]),
            skipped=tuple(skipped),
            notes=tuple(notes.most_common()),
            examples=tuple((note, tuple(named)) for note, named in examples.items()),
            classes=_count(numbers, names),
            sample_rate=contents.sample_rate,
            files=contents.files,
        )
        check_quality(summary, config.max_bad, complete=complete)
        _list_skipped(summary, skipped_listing(path))
        writer.finish(
            {
                "key": key,
                "shape": [len(labels), *summary.shape],
                "labels": numbers is not None,
                "label_names": list(names),
                "summary": asdict(summary),
                **_beyond_pictures(contents, columns),
            }
        )


def _list_skipped(summary: Summary, path: Path) -> None:
    """Name every skipped file beside the cache, where there are any."""
    if summary.skipped:
        write_text(path, "".join(f"{printable(line)}\n" for line in summary.skipped_lines()))


def _beyond_pictures(contents: SourceManifest, columns: dict[str, str]) -> dict[str, Any]:
    """What is said only where there is something to say, so that caches of pictures stay what they were."""
    further: dict[str, Any] = {}
    if contents.sample_rate is not None:
        further |= {"type": "<i2", "sample_rate": contents.sample_rate}
    if columns:
        further |= {"columns": columns, "fields": to_plain_fields(contents.fields)}
    return further | ({"licence": contents.licence} if contents.licence else {})


def check_quality(summary: Summary, max_bad: float, *, complete: bool = True) -> None:
    """Refuse a source with no good picture, or with too many bad ones; ``complete`` is whether all were looked at.

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


def number_labels(labels: Sequence[Label], names: tuple[str, ...] = ()) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers for classes, in the order of their names; whole numbers stay what they are.

    Args:
        labels: One per item; ``None`` or a negative number is no class.
        names: Names of numbered classes, where they are known.

    Returns:
        Array of shape ``[n]``, int64, with -1 for no class, and a name for every number; ``None`` and no names where
        no item has a class.

    Raises:
        ValueError: If a number is beyond the names, or too large to be that of a class.
    """
    given = [label for label in labels if label is not None and not (isinstance(label, int) and label < 0)]
    if not given:
        return None, ()
    if all(isinstance(label, int) for label in given):
        largest = max(int(label) for label in given)
        if largest >= (len(names) or _MOST_CLASSES):
            raise ValueError(f"labels must be numbers from 0 to {(len(names) or _MOST_CLASSES) - 1}, got {largest}")
        names = names or tuple(str(i) for i in range(largest + 1))
        return np.array([-1 if x is None else max(-1, int(x)) for x in labels], np.int64), names
    names = tuple(sorted({str(label) for label in given}))
    numbers = {name: i for i, name in enumerate(names)}
    return np.array([-1 if x is None else numbers.get(str(x), -1) for x in labels], np.int64), names


def _count(numbers: np.ndarray | None, names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    if numbers is None:
        return ()
    counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
    without = int((numbers < 0).sum())
    return (*zip(names, counts.tolist(), strict=True), *([("no label", without)] if without else []))


def _outcomes(contents: SourceManifest) -> Iterator[tuple[Item, Picture | Sound | UnusableFileError]]:
    """Every item with what was read, in order, with a bounded number of them in memory."""
    threads = _processors() if contents.parallel else 1
    if threads == 1:
        for item in contents.items():
            yield item, _attempt(item)
        return
    pool = ThreadPoolExecutor(threads)  # Pillow and libsndfile decode without the interpreter's lock
    try:
        waiting: deque[tuple[Item, Future[Picture | Sound | UnusableFileError]]] = deque()
        for item in contents.items():
            waiting.append((item, pool.submit(_attempt, item)))
            if len(waiting) >= _LOOK_AHEAD * threads:
                item, future = waiting.popleft()
                yield item, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(item: Item) -> Picture | Sound | UnusableFileError:
    try:
        return item.read()
    except UnusableFileError as error:
        return error


def _processors() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


@contextmanager
def _bar(name: str, count: int, show: bool) -> Iterator[Callable[[], None]]:
    """A progress bar with speed and time left; gives the function that counts one item."""
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # Where there is no terminal, the bar would leave an empty line.
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as bar:
        task = bar.add_task(f"preparing {escape(name)}", total=count, rate="")
        start = shown = time.monotonic()
        done = 0

        def advance() -> None:
            nonlocal done, shown
            done += 1
            now = time.monotonic()
            if now - shown > 0.1 or done == count:  # for tiny items the bar would cost more than decoding
                shown = now
                bar.update(task, completed=done, rate=f"{done / max(now - start, 1e-9):,.0f} items/s")

        yield advance
