"""NumPy array files that grow while they are written, with checksums of their blocks."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

BLOCK = 1 << 20
"""Bytes under one checksum."""
_CHECKED = 512  # blocks that are checked at every start, of larger files a sample spread over the file


class DamagedCacheError(ValueError):
    """A file of the cache that is not what was written."""


@dataclass(frozen=True, kw_only=True)
class ArrayRecord:
    """What was written into an array file."""

    dtype: str
    """NumPy's name of the type, with its byte order."""
    shape: tuple[int, ...]
    """Shape of the array."""
    blocks: tuple[int, ...]
    """CRC-32 of each :data:`BLOCK` bytes of its values."""


class ArrayWriter:
    """Writes a ``.npy`` file from front to back, so that a full disk is an error rather than the end of the process.

    Args:
        path: The file.
        dtype: Type of the values; stored in little-endian order.
        shape: Shape of one entry along the first axis.
        update: Called with the bytes of the values, for a hash over several arrays.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...], update: Callable[[bytes], object]) -> None:
        self.path, self.shape = path, shape
        self.dtype = np.dtype(dtype).newbyteorder("<") if np.dtype(dtype).itemsize > 1 else np.dtype(dtype)
        self._update = update
        self._count = 0
        self._blocks: list[int] = []
        self._pending = bytearray()
        self._file = path.open("wb")
        try:
            self._start = self._write_header()
        except OSError:
            self._file.close()
            raise

    def append(self, values: np.ndarray) -> None:
        """Add entries, shape ``[k, *shape]``."""
        content = np.ascontiguousarray(values, dtype=self.dtype).tobytes()
        self._update(content)
        self._count += len(values)
        self._pending += content
        while len(self._pending) >= BLOCK:
            self._put(bytes(self._pending[:BLOCK]))
            del self._pending[:BLOCK]

    def close(self) -> ArrayRecord:
        """Finish the file.

        Returns:
            What is in it.
        """
        if self._pending:
            self._put(bytes(self._pending))
            self._pending.clear()
        self._file.seek(0)
        if self._write_header() != self._start:
            raise RuntimeError(f"NumPy wrote a header of another length into {self.path}")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return ArrayRecord(dtype=self.dtype.str, shape=(self._count, *self.shape), blocks=tuple(self._blocks))

    def abandon(self) -> None:
        """Close the file as it is."""
        try:
            self._file.close()
        except OSError:  # the buffer's rest does not fit either; the file goes away in any case
            return

    def _write_header(self) -> int:
        # NumPy pads the header so that the length of the first axis can grow in place.
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self._count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()

    def _put(self, block: bytes) -> None:
        self._blocks.append(zlib.crc32(block))
        self._file.write(block)


def read_array(path: Path, record: ArrayRecord) -> np.ndarray:
    """An array file as a read-only memory map, once its header, length and checksums are known to be right.

    Raises:
        DamagedCacheError: If it is not what was written.
    """
    try:
        with path.open("rb") as file:
            shape, dtype, start = _header(file)
        if (shape, dtype.str) != (record.shape, record.dtype):
            raise DamagedCacheError(f"{path.name} has another shape or type")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if path.stat().st_size != start + size:
            raise DamagedCacheError(f"{path.name} has another length")
        if size == 0:
            return np.zeros(shape, dtype)
        content = np.memmap(path, np.uint8, mode="r", offset=start, shape=(size,))
    except (OSError, ValueError) as error:
        if isinstance(error, DamagedCacheError):
            raise
        raise DamagedCacheError(f"{path.name}: {error}") from error
    check_blocks(content, record.blocks, path.name)
    return content.view(dtype).reshape(shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise DamagedCacheError(f"its format is {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise DamagedCacheError("its header was changed")
    return shape, dtype, file.tell()


def check_blocks(content: np.ndarray, blocks: tuple[int, ...], name: str) -> None:
    """Compare checksums, of large files those of some blocks.

    Raises:
        DamagedCacheError: If one is wrong.
    """
    if len(blocks) != -(-len(content) // BLOCK):
        raise DamagedCacheError(f"checksums of {name} are missing")
    some = range(len(blocks)) if len(blocks) <= _CHECKED else np.linspace(0, len(blocks) - 1, _CHECKED).astype(int)
    for i in some:
        if zlib.crc32(content[i * BLOCK : (i + 1) * BLOCK].tobytes()) != blocks[i]:
            raise DamagedCacheError(f"{name} was changed from byte {i * BLOCK:,} on")
