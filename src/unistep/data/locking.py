"""One process at a time makes an entry of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unistep.data.cache import cache_unwritable


@contextmanager
def cache_lock(path: Path) -> Iterator[None]:
    """Held by the one process that prepares this data; freed when that process ends, however it ends."""
    from filelock import FileLock

    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise cache_unwritable(path.parent, error if isinstance(error, OSError) else OSError(str(error))) from error
    try:
        yield
    finally:
        lock.release()
