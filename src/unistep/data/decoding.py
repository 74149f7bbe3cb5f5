"""Reading the items of a source, by several threads where that is worth it, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from unistep.data.sources.base import Item, SourceManifest
from unistep.modalities.base import Decoded
from unistep.modalities.recording import Recording
from unistep.modalities.unusable import UnusableFileError

_LOOK_AHEAD = 4  # items per thread that may wait to be written

Outcome = Decoded | Recording | UnusableFileError
"""What reading an item gave."""


def outcomes(manifest: SourceManifest) -> Iterator[tuple[Item, Outcome]]:
    """Every item with what was read, in order, with a bounded number of them in memory."""
    threads = processors() if manifest.parallel else 1
    if threads == 1:
        for item in manifest.items():
            yield item, _attempt(item)
        return
    pool = ThreadPoolExecutor(threads)  # Pillow and libsndfile decode without the interpreter's lock
    try:
        waiting: deque[tuple[Item, Future[Outcome]]] = deque()
        for item in manifest.items():
            waiting.append((item, pool.submit(_attempt, item)))
            if len(waiting) >= _LOOK_AHEAD * threads:
                item, future = waiting.popleft()
                yield item, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def processors() -> int:
    """Threads that are worth their cost on this machine, at most 8."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def _attempt(item: Item) -> Outcome:
    try:
        return item.read()
    except UnusableFileError as error:
        return error
