"""A data set in memory-mapped form, prepared from its source the first time and found in the cache afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unistep.data.cache import DamagedCacheError, cache_root, read_cache
from unistep.data.config import DataConfig
from unistep.data.source import Source, open_source
from unistep.data.summary import Skipped, Summary

_VERSION = 1  # of the rules that make pixels from files; a change of them makes new caches
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Pictures of one shape with their labels."""

    images: np.ndarray
    """Read-only memory map of shape ``[n, c, h, w]``, uint8."""
    labels: np.ndarray | None
    """Classes, shape ``[n]``, int64, -1 for none; ``None`` where no picture has one."""
    label_names: tuple[str, ...]
    """A name for each class; empty without labels."""
    fingerprint: str
    """SHA-256 of pixels, labels and names: the same wherever and however the same data was prepared."""
    summary: Summary
    """What became of the source's files."""
    source: str
    """The source as a person writes it, with its split."""
    path: Path
    """The cache file."""

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        _, channels, height, width = self.images.shape
        return channels, height, width


def prepare(config: DataConfig, *, cache_dir: Path | None = None, progress: bool = True) -> Dataset:
    """Open a data set, decoding its source into the cache unless that was done before.

    The cache file's name holds a hash of the source (names, lengths and times of change of its files) and of the
    options, so that a change of either prepares anew. Several processes may call this at once: one prepares, the others
    wait. A damaged cache file is noticed and made again. Source files are only read.

    Args:
        config: Source and options.
        cache_dir: Root of the cache; ``$UNISTEP_CACHE`` or ``~/.cache/unistep`` by default.
        progress: Whether to show a bar on standard error while decoding.

    Returns:
        The data set.

    Raises:
        ValueError: If the source is unknown or missing, has no usable picture or too many bad ones, or the cache
            cannot be written; the line says which and what to do.
    """
    from unistep.data.build import build, check_quality

    root = cache_root(cache_dir)
    source = open_source(config, root / "downloads")
    key = _key(source, config)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", source.name).strip("-")[-40:]
    path = root / "data" / f"{readable}-{key[:16]}.pictures"
    dataset = _find(path, key, source.name)
    if dataset is None:
        with _lock(path):
            dataset = _find(path, key, source.name)  # another process may have made it in the meantime
            if dataset is None:
                for left in path.parent.glob(f"{path.name}.*.tmp*"):
                    left.unlink(missing_ok=True)  # of a process that was killed; a living one would hold the lock
                build(path, key, source.name, source.open(config), config, progress=progress)
                dataset = _find(path, key, source.name)
    if dataset is None:
        raise ValueError(f"the data cache {path} was damaged as soon as it was written; check that disk")
    check_quality(dataset.summary, config.max_bad)  # a cache may have been made with a larger max_bad
    return dataset


def _key(source: Source, config: DataConfig) -> str:
    options = {name: getattr(config, name) for name in ("size", "channels", "fit", "background", "limit")}
    text = json.dumps({"version": _VERSION, "source": source.identity(), "options": options}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _find(path: Path, key: str, name: str) -> Dataset | None:
    try:
        found = read_cache(path, key)
    except DamagedCacheError as error:
        _log.warning("the data cache %s is damaged (%s) and will be made again", path, error)
        return None
    if found is None:
        return None
    images, labels, description = found
    return Dataset(
        images=images,
        labels=labels,
        label_names=tuple(description["label_names"]),
        fingerprint=description["fingerprint"],
        summary=_summary(description["summary"]),
        source=name,
        path=path,
    )


def _summary(stored: dict[str, Any]) -> Summary:
    channels, height, width = stored["shape"]
    return Summary(
        source=stored["source"],
        good=stored["good"],
        shape=(channels, height, width),
        skipped=tuple(Skipped(**item) for item in stored["skipped"]),
        notes=tuple((note, count) for note, count in stored["notes"]),
        classes=tuple((label, count) for label, count in stored["classes"]),
    )


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by the one process that prepares this file; freed when that process ends, however it ends."""
    from filelock import FileLock

    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"the data cache cannot be written in {path.parent} ({reason}); "
            "set UNISTEP_CACHE to a folder that has room and can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()
