"""Opening a data set: decoded from its source the first time, found in the cache afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

from unistep import registry
from unistep.data.arrays import DamagedCacheError
from unistep.data.augmenting import Augmenter
from unistep.data.cache import cache_root, read_cache, remove_unfinished
from unistep.data.locking import cache_lock
from unistep.data.options import DataConfig
from unistep.data.prepared import PreparedDataset
from unistep.data.sources.base import Source
from unistep.data.sources.opening import open_source

_VERSION = 2  # of the rules that make values from files; a change of them makes new caches
_log = logging.getLogger(__name__)


def prepare(config: DataConfig, *, cache_dir: Path | None = None, progress: bool = True) -> PreparedDataset:
    """Open a data set, decoding its source into the cache unless that was done before.

    The name of the cache's folder has a hash of the source (names, lengths and times of change of its files) and of the
    options, so that a change of either prepares anew. Several processes may call this at once: one prepares, the others
    wait. A damaged cache is noticed and made again. Source files are only read.

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
    from unistep.data.building import build, check_quality

    root = cache_root(cache_dir)
    source = open_source(config, root / "downloads")
    config = source.filled(config)
    Augmenter.of(registry.lookup("modality", source.modality_of(config)), config.augment)  # are there such ones?
    key = cache_key(source, config)
    readable = re.sub(r"[^A-Za-z0-9]+", "-", source.name).strip("-")[-40:]
    path = root / "data" / f"{readable}-{key[:16]}"
    dataset = _find(path, key, source, config)
    if dataset is None:
        with cache_lock(path):
            dataset = _find(path, key, source, config)  # another process may have made it in the meantime
            if dataset is None:
                remove_unfinished(path)  # of a process that was killed; a living one would hold the lock
                build(path, key, source.name, source.open(config), config, progress=progress)
                dataset = _find(path, key, source, config)
    if dataset is None:
        raise ValueError(f"the data cache {path} was damaged as soon as it was written; check that disk")
    check_quality(dataset.summary, config.max_bad)  # a cache may have been made with a larger max_bad
    return dataset


def cache_key(source: Source, config: DataConfig) -> str:
    """A hash of everything that the prepared items depend on."""
    name = source.modality_of(config)
    options = config.options_for(name)
    made_from = {
        "version": _VERSION,
        "source": source.identity(),
        "modality": name,
        "options": options.key,
        "limit": config.limit,
        **({} if config.captions else {"captions": False}),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _find(path: Path, key: str, source: Source, config: DataConfig) -> PreparedDataset | None:
    try:
        found = read_cache(path, key)
        if found is None:
            return None
        name = found.description["modality"]
        kind = registry.lookup("modality", name)
        modality = kind.fitted(config.options_for(name), tuple(found.description["shape"]))
        return PreparedDataset(found, modality=modality, source=source.name, path=path, augment=config.augment)
    except (DamagedCacheError, KeyError) as error:
        _log.warning("the data cache %s is damaged (%s) and will be made again", path, error)
        return None
