"""The prepared data set on disk: a folder of ``.npy`` arrays and ``dataset.json``, which appears whole or not at all.

``values.npy`` has the items, ``[n, c, ...]``, or whole recordings one after the other, ``[time, c, ...]``, of which
``start.npy``, ``first.npy`` and ``last.npy`` say where windows begin. What is known of each item lies in further
arrays, one or more for each condition. The description has the checksums of all of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unistep.data.arrays import ArrayRecord, ArrayWriter, DamagedCacheError, read_array
from unistep.files import replacing_folder, unwritable, user_cache

VALUES = "values"
"""Name of the array of signals."""
_DESCRIPTION = "dataset.json"


def cache_root(cache_dir: Path | None) -> Path:
    """``cache_dir``, else ``$UNISTEP_CACHE``, else ``~/.cache/unistep``."""
    return user_cache() if cache_dir is None else cache_dir


def skipped_listing(path: Path) -> Path:
    """Where the files that were skipped are named, for a folder of the cache."""
    return path / "skipped.txt"


def cache_unwritable(folder: Path, error: OSError) -> ValueError:
    """The error to raise where the cache cannot be written in a folder."""
    line = (
        f"the data cache cannot be written in {folder} ({error.strerror or error}); "
        "set UNISTEP_CACHE to a folder that has room and can be written"
    )
    return unwritable(line, error)


class CacheWriter:
    """Writes the arrays of a data set into a folder, and a hash over all of them; see :func:`writing`.

    Args:
        folder: The folder, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hash = hashlib.sha256()
        self._values: ArrayWriter | None = None
        self._records: dict[str, ArrayRecord] = {}

    def append(self, values: np.ndarray) -> None:
        """Add to the signals, shape ``[k, ...]``."""
        if self._values is None:
            path = self.folder / f"{VALUES}.npy"
            self._values = ArrayWriter(path, values.dtype, values.shape[1:], self._hash.update)
        self._values.append(values)

    def widen(self, channels: int) -> None:
        """Repeat the one channel of all signals so far: grey planes become ``channels`` equal ones."""
        if self._values is None:
            return
        before = self.folder / "before.npy"
        self._values.close()
        self._values.path.rename(before)
        self._values, self._hash = None, hashlib.sha256()
        try:
            narrow = np.load(before, mmap_mode="r", allow_pickle=False)
            for i in range(0, len(narrow), 256):
                self.append(np.repeat(narrow[i : i + 256], channels, axis=1))
        finally:
            before.unlink()

    def add(self, name: str, column: np.ndarray) -> None:
        """Write a whole array, one entry for each item."""
        self._finish_values()
        writer = ArrayWriter(self.folder / f"{name}.npy", column.dtype, column.shape[1:], self._hash.update)
        try:
            writer.append(column)
            self._records[name] = writer.close()
        finally:
            writer.abandon()

    def add_columns(self, name: str, parts: Iterable[Mapping[str, np.ndarray]]) -> None:
        """Write a condition.

        Args:
            name: Name of the condition.
            parts: Its arrays by name: those of the first items, of the next ones, and so on.
        """
        self._finish_values()
        writers: dict[str, ArrayWriter] = {}
        try:
            for columns in parts:
                for key, column in columns.items():
                    if key not in writers:
                        path = self.folder / f"{name}.{key}.npy"
                        writers[key] = ArrayWriter(path, column.dtype, column.shape[1:], self._hash.update)
                    writers[key].append(column)
            self._records |= {f"{name}.{key}": writer.close() for key, writer in writers.items()}
        finally:
            for writer in writers.values():
                writer.abandon()

    def finish(self, description: dict[str, Any], meaning: Any) -> None:
        """Write the description, with the fingerprint of the data and all checksums.

        Args:
            description: What else belongs to the data set, in JSON's types.
            meaning: What the arrays do not say themselves, for the fingerprint.
        """
        self._finish_values()
        self._hash.update(json.dumps(meaning).encode())
        arrays = {name: asdict(record) for name, record in self._records.items()}
        whole = {**description, "fingerprint": self._hash.hexdigest(), "arrays": arrays}
        text = json.dumps({"checksum": _checksum(whole), **whole})
        (self.folder / _DESCRIPTION).write_text(text, encoding="utf-8")

    def abandon(self) -> None:
        """Close what is open."""
        if self._values is not None:
            self._values.abandon()

    def _finish_values(self) -> None:
        if self._values is not None:
            self._records[VALUES] = self._values.close()
            self._values = None


@contextmanager
def writing(path: Path) -> Iterator[CacheWriter]:
    """A writer for the folder ``path``, which appears when the block ends well; nothing is left when it does not.

    Raises:
        ValueError: If it cannot be written, naming the reason.
    """
    try:
        with replacing_folder(path) as staged:
            writer = CacheWriter(staged)
            try:
                yield writer
            finally:
                writer.abandon()
    except OSError as error:
        raise cache_unwritable(path.parent, error) from error


def remove_unfinished(path: Path) -> None:
    """Delete what killed processes left of ``path``; whoever calls this holds its lock."""
    for left in path.parent.glob(f".{path.name}.*.tmp*"):
        shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):
            left.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Cached:
    """A folder of the cache, opened."""

    arrays: dict[str, np.ndarray]
    """Read-only memory maps by name."""
    description: dict[str, Any]
    """What was written beside them."""


def read_cache(path: Path, key: str) -> Cached | None:
    """Open a folder of the cache.

    Args:
        path: The folder.
        key: What it must have been made from.

    Returns:
        Its arrays and description, or ``None`` where there is no such folder.

    Raises:
        DamagedCacheError: If it is incomplete, changed or of another version.
    """
    if not path.is_dir():
        return None
    try:
        description = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        checksum = description.pop("checksum")
        if checksum != _checksum(description):
            raise DamagedCacheError("its description was changed")
        if description["key"] != key:
            raise DamagedCacheError("it was made from other data")
        records = {
            name: ArrayRecord(dtype=r["dtype"], shape=tuple(r["shape"]), blocks=tuple(r["blocks"]))
            for name, r in description.pop("arrays").items()
        }
    except DamagedCacheError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCacheError(f"its description cannot be read: {error}") from error
    return Cached(
        arrays={name: read_array(path / f"{name}.npy", r) for name, r in records.items()}, description=description
    )


def _checksum(description: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(description, sort_keys=True).encode())
