"""Decoding every picture of a source into a cache file, with a summary of what became of each."""

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

import numpy as np

from unistep.data.cache import CacheWriter
from unistep.data.config import DataConfig
from unistep.data.source import Contents, Item, Label
from unistep.data.summary import Skipped, Summary
from unistep.modalities.decode import Picture, UnusablePictureError

_MOST_CLASSES = 100_000
_LOOK_AHEAD = 4  # pictures per thread that may wait to be written


def build(path: Path, key: str, name: str, contents: Contents, config: DataConfig, *, progress: bool) -> None:
    """Decode ``contents`` into a cache file.

    Args:
        path: The file to write.
        key: What the file is made from.
        name: The source, for messages.
        contents: The pictures.
        config: Gives the share of bad pictures allowed.
        progress: Whether to show a bar on standard error.

    Raises:
        ValueError: If no picture is good, too many are bad, labels make no sense, or the file cannot be written.
    """
    labels: list[Label] = []
    skipped: list[Skipped] = []
    notes: Counter[str] = Counter()
    channels, height, width = contents.shape
    if contents.may_be_grey:
        channels = 1  # until a picture with colours comes
    with CacheWriter(path) as writer, _bar(name, contents.count, progress) as advance, warnings.catch_warnings():
        # Pillow warns of what the summary says: odd EXIF blocks, palettes, and sizes that our own limit looks after.
        warnings.simplefilter("ignore")
        bad, complete = 0, True
        for item, outcome in _outcomes(contents):
            advance()
            if isinstance(outcome, UnusablePictureError):
                is_bad = item.is_picture or outcome.is_picture
                skipped.append(Skipped(name=item.name, reason=str(outcome) if is_bad else "not a picture", bad=is_bad))
                bad += is_bad
                if bad > config.max_bad * contents.count:
                    complete = False
                    break  # however good the rest is
                continue
            pixels = outcome.pixels
            if channels < len(pixels):
                if (pixels == pixels[:1]).all():
                    pixels = pixels[:1]
                else:
                    writer.repeat_items(height * width, len(pixels))
                    channels = len(pixels)
            writer.write(pixels.tobytes())
            labels.append(item.label)
            notes.update(outcome.notes)
        numbers, names = number_labels(labels, contents.label_names)
        if numbers is not None:
            writer.write(numbers.astype("<i8").tobytes())
        summary = Summary(
            source=name,
            good=len(labels),
            shape=(channels, height, width),
            skipped=tuple(skipped),
            notes=tuple(notes.most_common()),
            classes=_count(numbers, names),
        )
        check_quality(summary, config.max_bad, complete=complete)
        writer.finish(
            {
                "key": key,
                "shape": [len(labels), channels, height, width],
                "labels": numbers is not None,
                "label_names": list(names),
                "summary": asdict(summary),
            }
        )


def check_quality(summary: Summary, max_bad: float, *, complete: bool = True) -> None:
    """Refuse a source with no good picture, or with too many bad ones; ``complete`` is whether all were looked at.

    Raises:
        ValueError: Naming the first bad files and the most frequent reasons.
    """
    bad = [item for item in summary.skipped if item.bad]
    seen = summary.good + len(bad)
    some = ", ".join(f"{item.name} ({item.reason})" for item in (bad or summary.skipped)[:3])
    more = f" and {len(bad) - 3:,} more" if len(bad) > 3 else ""
    if summary.good == 0 and complete:
        raise ValueError(f"{summary.source} has no usable picture: {some or 'it is empty'}{more}")
    if len(bad) > max_bad * seen:
        raise ValueError(
            f"{summary.source} has too many unusable pictures, {len(bad):,} of {seen:,} looked at, where max_bad "
            f"allows {max_bad:.0%}: {some}{more}; remove them or raise max_bad"
        )


def number_labels(labels: Sequence[Label], names: tuple[str, ...] = ()) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers for classes, in the order of their names; whole numbers stay what they are.

    Args:
        labels: One per picture; ``None`` or a negative number is no class.
        names: Names of numbered classes, where they are known.

    Returns:
        Array of shape ``[n]``, int64, with -1 for no class, and a name for every number; ``None`` and no names where
        no picture has a class.

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


def _outcomes(contents: Contents) -> Iterator[tuple[Item, Picture | UnusablePictureError]]:
    """Every item with its picture, in order, with a bounded number of pictures in memory."""
    threads = _processors() if contents.parallel else 1
    if threads == 1:
        for item in contents.items():
            yield item, _attempt(item)
        return
    pool = ThreadPoolExecutor(threads)  # Pillow decodes and resizes without the interpreter's lock
    try:
        waiting: deque[tuple[Item, Future[Picture | UnusablePictureError]]] = deque()
        for item in contents.items():
            waiting.append((item, pool.submit(_attempt, item)))
            if len(waiting) >= _LOOK_AHEAD * threads:
                item, future = waiting.popleft()
                yield item, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(item: Item) -> Picture | UnusablePictureError:
    try:
        return item.read()
    except UnusablePictureError as error:
        return error


def _processors() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


@contextmanager
def _bar(name: str, count: int, show: bool) -> Iterator[Callable[[], None]]:
    """A progress bar with speed and time left; gives the function that counts one picture."""
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"preparing {escape(name)}", total=count, rate="")
        start = shown = time.monotonic()
        done = 0

        def advance() -> None:
            nonlocal done, shown
            done += 1
            now = time.monotonic()
            if now - shown > 0.1 or done == count:  # for tiny pictures the bar would cost more than decoding
                shown = now
                bar.update(task, completed=done, rate=f"{done / max(now - start, 1e-9):,.0f} pictures/s")

        yield advance
