"""What a source of pictures or sounds offers, and which one a name stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unistep.core.condition import AnyField, ConditionValue
from unistep.data.options import DataConfig
from unistep.modalities.audio_reading import Sound
from unistep.modalities.image_reading import Picture, fit_picture, to_planes
from unistep.spelling import closest, nearest_hint

DEFAULT_SIZE = 32
"""Side of pictures from a source whose pictures have many sizes, in pixels."""

DEFAULT_RATE, DEFAULT_SECONDS = 16_000, 1.0
"""Samples per second, and length, of sounds from a source whose sounds have many."""

PREFIXES = ("fashion-mnist", "folder:", "npz:", "hf:", "notes", "phrases", "drums", "spoken-digits")
"""How the name of a source may begin."""

Label = int | str | None
"""A class by number, or by name; ``None`` is no class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One picture or sound of a source, not read yet."""

    name: str
    """Its name within the source, for messages."""
    label: Label
    """Its class."""
    read: Callable[[], Picture | Sound]
    """Gives the picture or sound, or raises ``UnusableFileError``; safe to call from any thread."""
    expected_type: bool = True
    """Whether its name says that it is what is wanted, so that failing to read it counts as bad."""
    condition: Mapping[str, ConditionValue] = field(default_factory=dict)
    """Its values of :attr:`SourceManifest.fields`, as a person writes them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceManifest:
    """The pictures or sounds of a source, all of one shape, in a fixed order."""

    count: int
    """Number of items."""
    shape: tuple[int, ...]
    """Shape of what :attr:`Item.read` gives: channels, height and width, or channels and samples."""
    items: Callable[[], Iterator[Item]]
    """Starts reading; sequential."""
    label_names: tuple[str, ...] = ()
    """Names of numbered classes, where the source has them."""
    parallel: bool = True
    """Whether decoding is worth several threads."""
    may_be_grey: bool = False
    """Whether three equal channels everywhere mean a grey source."""
    sample_rate: int | None = None
    """Samples per second of sounds; ``None`` for pictures."""
    fields: Mapping[str, AnyField] = field(default_factory=dict)
    """What is known of every item besides its label."""
    licence: str = ""
    """Under which licence the data is, and whose it is, where the source knows."""
    files: int | None = None
    """Number of files, where one holds several items; of bad ones there is one item each."""


class Source(ABC):
    """A place that pictures or sounds come from."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The source as a person writes it, with its split."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What the pictures depend on, in JSON's types; cheap, as it is computed at every start.

        Raises:
            ValueError: If the source is not there.
        """

    @abstractmethod
    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read.

        Raises:
            ValueError: If the source is not there or is not what it should be.
        """


def open_source(config: DataConfig, downloads: Path) -> Source:
    """The source that ``config.source`` names.

    Args:
        config: Names the source and the split.
        downloads: Folder for files that a source has to download.

    Raises:
        ValueError: For an unknown name, with the nearest valid one, or a split that the source does not have.
    """
    from unistep.data.sources.drums_digits import open_packaged
    from unistep.data.sources.fashion import FashionMnist
    from unistep.data.sources.folder import Folder
    from unistep.data.sources.hub import HuggingFace
    from unistep.data.sources.npz import Npz

    prefix, _, rest = config.source.partition(":")
    if prefix == "fashion-mnist":
        return FashionMnist(split=rest or config.split, downloads=downloads)
    if prefix in ("folder", "npz", "hf") and not rest:
        raise ValueError(f"{prefix}: needs a {'name' if prefix == 'hf' else 'path'} after the colon")
    if prefix == "hf":
        name, colon, split = rest.rpartition(":")
        return HuggingFace(dataset=name if colon else rest, split=split if colon else config.split)
    if prefix in ("folder", "npz"):
        if config.split != "train":
            raise ValueError(f"{prefix}: sources have no splits, got split {config.split!r}; give that part's own path")
        path = Path(rest).expanduser()
        return Folder(path=path) if prefix == "folder" else Npz(path=path)
    packaged = open_packaged(prefix, rest, config)
    if packaged is not None:
        return packaged
    raise ValueError(_unknown(config.source))


def _unknown(source: str) -> str:
    path = Path(source).expanduser()
    known = "fashion-mnist, folder:PATH, npz:FILE, hf:NAME, notes, phrases, drums, spoken-digits"
    if path.is_dir():
        return f"unknown data source {source!r}; did you mean 'folder:{source}'? (one of {known})"
    if path.suffix == ".npz":
        return f"unknown data source {source!r}; did you mean 'npz:{source}'? (one of {known})"
    prefix, colon, rest = source.partition(":")
    close = closest(prefix + colon, PREFIXES, 0.4)
    hint = f"; did you mean {close + (rest if close.endswith(':') else '')!r}?" if close else ""
    return f"unknown data source {source!r}; it must be one of {known}{hint}"


def missing_path(path: Path, wanted: str) -> str:
    """A line that says that ``path`` is not ``wanted``, with the nearest name beside it."""
    if path.exists():
        return f"{path} is not {wanted}"
    try:
        beside = tuple(entry.name for entry in path.parent.iterdir())
    except OSError:
        beside = ()
    return f"{path} does not exist, wanted {wanted}{nearest_hint(path.name, beside)}"


def array_picture(array: np.ndarray, config: DataConfig, shape: tuple[int, int, int]) -> Picture:
    """A picture from pixels ``[h, w, c]`` or ``[h, w]``, uint8, brought to ``shape`` = ``[c, h, w]``."""
    from PIL import Image

    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if planes.shape == shape:
        return Picture(pixels=np.ascontiguousarray(planes))
    image = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    image = image.convert("L" if shape[0] == 1 else "RGB")
    return Picture(pixels=to_planes(fit_picture(image, shape[1:], config.fit, config.background)))


def evenly_spaced(count: int, limit: int | None) -> range | list[int]:
    """Indices of at most ``limit`` of ``count`` items, spread evenly and in order."""
    if limit is None or limit >= count:
        return range(count)
    return [i * count // limit for i in range(limit)]
