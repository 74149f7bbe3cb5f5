"""A data set in memory-mapped form, prepared from its source the first time and found in the cache afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unistep.core.condition import AnyField, LabelField
from unistep.data.cache import (
    DamagedCacheError,
    cache_root,
    cache_unwritable,
    from_plain_fields,
    read_cache,
    skipped_listing,
)
from unistep.data.options import DataConfig, is_sound_source
from unistep.data.source import DEFAULT_RATE, DEFAULT_SECONDS, Source, open_source
from unistep.data.summary import Skipped, Summary

_VERSION = 1  # of the rules that make pixels from files; a change of them makes new caches
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Pictures or sounds of one shape, with what is known of each."""

    values: np.ndarray
    """Read-only memory map: pixels of shape ``[n, c, h, w]``, uint8, or waveforms ``[n, c, samples]``, int16."""
    condition: Mapping[str, np.ndarray]
    """What is known of each by name, shape ``[n]``: int64, -1 for nothing, or float32; a class is ``label``."""
    fields: Mapping[str, AnyField]
    """What the names of :attr:`condition` can be."""
    fingerprint: str
    """SHA-256 of values, conditions and names: the same wherever and however the same data was prepared."""
    summary: Summary
    """What became of the source's files."""
    source: str
    """The source as a person writes it, with its split."""
    path: Path
    """The cache file."""
    licence: str = ""
    """Under which licence the data is, and whose it is, where the source knows."""

    def __len__(self) -> int:
        """Number of pictures or sounds."""
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of a picture, or channels and samples of a sound."""
        return tuple(self.values.shape[1:])

    @property
    def sample_rate(self) -> int | None:
        """Samples per second of sounds; ``None`` for pictures."""
        return self.summary.sample_rate

    @property
    def images(self) -> np.ndarray:
        """The values of pictures.

        Raises:
            ValueError: If these are sounds.
        """
        if self.sample_rate is not None:
            raise ValueError(f"{self.source} has sounds, where pictures are wanted")
        return self.values

    @property
    def labels(self) -> np.ndarray | None:
        """Classes, shape ``[n]``, int64, -1 for none; ``None`` where no item has one."""
        return self.condition.get("label")

    @property
    def label_names(self) -> tuple[str, ...]:
        """A name for each class; empty without labels."""
        spec = self.fields.get("label")
        return spec.names if isinstance(spec, LabelField) else ()


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
        ValueError: If the source is unknown or missing, has nothing usable or too many bad files, or the cache
            cannot be written; the line says which and what to do.
    """
    from unistep.data.preparation import build, check_quality

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
    of_sounds = {name: getattr(config, name) for name in ("kind", "sample_rate", "seconds", "loudness", "cut")}
    usual = {"sample_rate": DEFAULT_RATE, "seconds": DEFAULT_SECONDS, "cut": "start"}
    if config.of_sounds:  # what is said in so many words is what would be done without them
        options["channels"] = None if config.channels == 1 else config.channels
        usual |= {"kind": "sound", "cut": config.cut} if is_sound_source(config.source) else {}
    options |= {name: value for name, value in of_sounds.items() if value not in (None, usual.get(name))}
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
    values, condition, description = found
    fields: dict[str, AnyField] = from_plain_fields(description.get("fields", {}))
    if "label" in condition:
        names = tuple(description["label_names"])
        fields = {"label": LabelField(size=len(names), names=names), **fields}
    return Dataset(
        values=values,
        condition=condition,
        fields=fields,
        licence=description.get("licence", ""),
        fingerprint=description["fingerprint"],
        summary=_summary(description["summary"], skipped_listing(path)),
        source=name,
        path=path,
    )


def _summary(stored: dict[str, Any], listing: Path) -> Summary:
    return Summary(
        source=stored["source"],
        listing=str(listing) if listing.is_file() else "",
        good=stored["good"],
        shape=tuple(stored["shape"]),
        examples=tuple((note, tuple(named)) for note, named in stored.get("examples", ())),
        sample_rate=stored.get("sample_rate"),
        files=stored.get("files"),
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
        raise cache_unwritable(path.parent, error if isinstance(error, OSError) else OSError(str(error))) from error
    try:
        yield
    finally:
        lock.release()
