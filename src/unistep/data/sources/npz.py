"""Images in a NumPy archive, by the convention of reference batches: ``arr_0`` pixels, ``arr_1`` labels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, LocalSource, SourceManifest
from unistep.data.sources.image_items import array_image
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.paths import missing_path, printable
from unistep.modalities.image_options import ImageOptions

_BROKEN = (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Npz(LocalSource):
    """A ``.npz`` file with uint8 images ``[n, h, w, c]``, ``[n, c, h, w]`` or ``[n, h, w]``; never unpickled.

    Args:
        path: The file.
    """

    modality: ClassVar[str | None] = "image"
    usage: ClassVar[str] = "npz:FILE"

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"npz:{printable(str(self.path))}"

    def identity(self) -> dict[str, Any]:
        """Path, length and time of change of the file.

        Raises:
            ValueError: If it is not there.
        """
        try:
            if not self.path.is_file():
                raise ValueError(missing_path(self.path, "an .npz file"))
            status = self.path.stat()
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from error
        return {"npz": str(self.path.resolve()), "size": status.st_size, "mtime": status.st_mtime_ns}

    def open(self, config: DataConfig) -> SourceManifest:
        """Read the archive's headers and labels.

        Raises:
            ValueError: If it has no images in a shape that is known.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = archive.namelist()
                images = "arr_0.npy" if "arr_0.npy" in names else "images.npy"
                if images not in names:
                    have = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
                    raise ValueError(f"has no images: expected arr_0 or images, it has {have}")
                with archive.open(images) as member:
                    stored = _header(member)
                labels = self._labels(archive, names, stored[0])
        except _BROKEN as error:
            raise ValueError(f"{self.path} cannot be used: {' '.join(str(error).split())}") from error
        planes_first = len(stored) == 4 and stored[3] not in (1, 3)
        grey = len(stored) == 3 or stored[1 if planes_first else 3] == 1
        first = 2 if planes_first else 1
        height, width = stored[first], stored[first + 1]
        options: ImageOptions = config.options_for(self.modality_of(config))
        shape = (options.channels or (1 if grey else 3), options.size or height, options.size or width)
        chosen = evenly_spaced(stored[0], config.limit)

        def items() -> Iterator[Item]:
            for i, array in _stream(self.path, images, chosen):
                array = array.transpose(1, 2, 0) if planes_first else array
                label = None if labels is None else int(labels[i])
                yield Item(name=str(i), label=label, read=partial(array_image, array, options, shape))

        return SourceManifest(modality="image", count=len(chosen), shape=shape, items=items, parallel=False)

    def _labels(self, archive: zipfile.ZipFile, names: list[str], count: int) -> np.ndarray | None:
        member = next((name for name in ("arr_1.npy", "labels.npy") if name in names), None)
        if member is None:
            return None
        with archive.open(member) as stream:
            labels = np.lib.format.read_array(stream, allow_pickle=False)
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{member} must hold {count} whole numbers, got shape {labels.shape} of type {labels.dtype}"
            )
        return labels


def _header(stream: IO[bytes]) -> tuple[int, ...]:
    """Read past the header of an array file; its shape, once that is known to be a batch of images."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype != np.uint8:
        raise ValueError(f"images must be uint8, 0 to 255, got {dtype}")
    right = len(shape) == 3 or (len(shape) == 4 and (shape[3] in (1, 3) or shape[1] in (1, 3)))
    if not right or 0 in shape:
        raise ValueError(f"images must have shape [n, h, w, c], [n, c, h, w] or [n, h, w] with c 1 or 3, got {shape}")
    if fortran:
        raise ValueError("images are stored in Fortran order; save them with numpy.ascontiguousarray")
    return shape


def _stream(path: Path, member: str, chosen: range | list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The chosen images one by one, so that memory does not grow with the file."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            shape = _header(stream)[1:]
            size = int(np.prod(shape))
            at = 0
            for i in chosen:
                while at < i:
                    stream.read(size)
                    at += 1
                content = stream.read(size)
                at += 1
                if len(content) != size:
                    raise ValueError("it ends early")
                yield i, np.frombuffer(content, np.uint8).reshape(shape)
    except _BROKEN as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}") from error
