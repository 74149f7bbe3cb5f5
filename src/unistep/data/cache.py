"""The prepared data set on disk: one file, written under another name and renamed, checked whenever it is opened.

Layout: pixels ``[n, c, h, w]`` in uint8 or waveforms ``[n, c, samples]`` in little-endian int16, labels ``[n]`` in
little-endian int64 where there are any, the other conditions likewise (numbers in float32), a JSON description, and a
tail with the checksum and length of that description. Written from front to back, a full disk is an error that
can be reported, where writing through a memory map would end the process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from unistep.core.condition import AnyField
from unistep.files import unwritable
from unistep.serialization import from_plain, to_plain

_TAIL = struct.Struct("<IQ8s")  # CRC-32 and length of the description, and a mark
_MARK = b"unistep1"
_BLOCK = 1 << 20  # bytes under one checksum
_CHECKED = 512  # blocks that are checked at every start, of larger caches a sample spread over the file
_log = logging.getLogger(__name__)


def cache_root(cache_dir: Path | None) -> Path:
    """``cache_dir``, else ``$UNISTEP_CACHE``, else ``~/.cache/unistep``."""
    if cache_dir is not None:
        return cache_dir
    given = os.environ.get("UNISTEP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "unistep"


def skipped_listing(path: Path) -> Path:
    """Where the files that were skipped are named, for a cache file."""
    return path.with_suffix(".skipped.txt")


def cache_unwritable(folder: Path, error: OSError) -> ValueError:
    """The error to raise where the cache cannot be written in a folder."""
    line = (
        f"the data cache cannot be written in {folder} ({error.strerror or error}); "
        "set UNISTEP_CACHE to a folder that has room and can be written"
    )
    return unwritable(line, error)


class CacheWriter:
    """Writes a cache file; as a context, it leaves nothing behind unless :meth:`finish` was reached.

    Args:
        path: Where the file will be.

    Raises:
        ValueError: If it cannot be written, there and in every method.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        self._hash = hashlib.sha256()
        self._blocks: list[int] = []
        self._pending = bytearray()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._unfinished.open("wb")
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError as failure:  # the buffer's rest does not fit either; the file goes away in any case
            _log.debug("closing %s: %s", self._unfinished, failure)
        self._unfinished.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Append to the values and conditions."""
        self._hash.update(content)
        self._pending += content
        while len(self._pending) >= _BLOCK:
            self._put(bytes(self._pending[:_BLOCK]))
            del self._pending[:_BLOCK]

    def repeat_items(self, size: int, times: int) -> None:
        """Rewrite what is there with every ``size`` bytes repeated: grey planes become three equal ones."""
        before = self._unfinished.with_name(f"{self._unfinished.name}.before")
        try:
            if self._pending:
                self._put(bytes(self._pending))
            self._file.close()
            self._unfinished.replace(before)
            self._file = self._unfinished.open("wb")
            self._hash, self._blocks, self._pending = hashlib.sha256(), [], bytearray()
            with before.open("rb") as reader:
                while item := reader.read(size):
                    self.write(item * times)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            before.unlink(missing_ok=True)

    def finish(self, description: dict[str, Any]) -> None:
        """Add the description, with the fingerprint of the data and its checksums, and put the file in its place."""
        if self._pending:
            self._put(bytes(self._pending))
        meaning = [description["shape"], description["label_names"], description["labels"]]
        meaning += [description[name] for name in ("type", "sample_rate", "fields") if name in description]
        self._hash.update(json.dumps(meaning).encode())
        text = json.dumps({**description, "fingerprint": self._hash.hexdigest(), "blocks": self._blocks}).encode()
        try:
            self._file.write(text + _TAIL.pack(zlib.crc32(text), len(text), _MARK))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._unfinished.replace(self._path)
        except OSError as error:
            raise self._failed(error) from error

    def _put(self, block: bytes) -> None:
        self._blocks.append(zlib.crc32(block))
        try:
            self._file.write(block)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> ValueError:
        return cache_unwritable(self._path.parent, error)


class DamagedCacheError(ValueError):
    """A cache file that is not what was written."""


def to_plain_fields(fields: Mapping[str, AnyField]) -> dict[str, Any]:
    """Fields as the description holds them; what most lack is left out, so that fingerprints stay what they were."""
    plain = to_plain(_Fields(fields=dict(fields)))["fields"]
    for spec in plain.values():
        if not spec.get("numbers"):
            spec.pop("numbers", None)
    return plain


def from_plain_fields(plain: dict[str, Any]) -> dict[str, AnyField]:
    """Inverse of :func:`to_plain_fields`."""
    return from_plain(_Fields, {"fields": plain}).fields


@dataclass(frozen=True, kw_only=True)
class _Fields:
    fields: dict[str, AnyField]


def read_cache(path: Path, key: str) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]] | None:
    """Open a cache file.

    Args:
        path: The file.
        key: What it must have been made from.

    Returns:
        Pixels ``[n, c, h, w]`` or waveforms ``[n, c, samples]`` as a read-only memory map, what is known of each by
        name (``[n]``, labels among it), and the description; or ``None`` where there is no such file.

    Raises:
        DamagedCacheError: If it is cut off, changed or of another version.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            file.seek(-_TAIL.size, os.SEEK_END)
            end = file.tell()
            checksum, length, mark = _TAIL.unpack(file.read(_TAIL.size))
            if mark != _MARK or length > end:
                raise DamagedCacheError("its end is missing")
            file.seek(end - length)
            text = file.read(length)
        if zlib.crc32(text) != checksum:
            raise DamagedCacheError("its description was changed")
        description = json.loads(text)
        shape, kind = tuple(description["shape"]), np.dtype(description.get("type", "u1"))
        columns = {"label": "<i8"} if description["labels"] else {}
        columns |= description.get("columns", {})
        length_of_values = int(np.prod(shape)) * kind.itemsize
        sizes = {name: shape[0] * np.dtype(column).itemsize for name, column in columns.items()}
        if description["key"] != key or end - length != length_of_values + sum(sizes.values()):
            raise DamagedCacheError("it has another length or origin")
        content = np.memmap(path, np.uint8, mode="r", shape=(end - length,))
    except (OSError, KeyError, TypeError) as error:
        raise DamagedCacheError(str(error)) from error
    _check_blocks(content, description["blocks"])
    condition, at = {}, length_of_values
    for name, column in columns.items():
        values = content[at : at + sizes[name]].view(column)
        condition[name] = values.astype(np.int64 if values.dtype.kind == "i" else np.float32)
        at += sizes[name]
    return content[:length_of_values].view(kind).reshape(shape), condition, description


def _check_blocks(content: np.ndarray, blocks: list[int]) -> None:
    if len(blocks) != -(-len(content) // _BLOCK):
        raise DamagedCacheError("checksums are missing")
    some = range(len(blocks)) if len(blocks) <= _CHECKED else np.linspace(0, len(blocks) - 1, _CHECKED).astype(int)
    for i in some:
        if zlib.crc32(content[i * _BLOCK : (i + 1) * _BLOCK].tobytes()) != blocks[i]:
            raise DamagedCacheError(f"its bytes from {i * _BLOCK:,} on were changed")
