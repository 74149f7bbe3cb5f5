"""Moving Fashion-MNIST: two items of clothing that move, bounce off the edges and pass in front of each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np

from unistep.core.seeding import derived_seed
from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.fashion import FashionMnist
from unistep.data.sources.image_items import array_image
from unistep.data.sources.limits import evenly_spaced
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.image_options import ImageOptions
from unistep.modalities.video_options import SIZE, VideoOptions
from unistep.spelling import nearest_hint

COUNTS = {"train": 20_000, "test": 4_000}
"""Clips of each split, of items of that split of Fashion-MNIST alone."""
SCENE = 64
"""Side of the square that clips are drawn in before they are scaled, in pixels; an item has 28."""
SPEED = (2.0, 5.0)
"""Least and largest speed of an item, in pixels of the scene per frame."""
LICENCE = "MIT (Fashion-MNIST, Zalando SE; set in motion by Unistep)"
"""Of the items, which the clips are made of."""

REPORTING = ("moving-fashion", "moving-fashion-vicreg", "random-convolutions:2")
"""Feature networks of published figures: one that knows classes and velocities, one that learned without labels, and
one that learned nothing."""

_VERSION = 1  # of how clips are drawn: another one is other data


@dataclass(frozen=True, kw_only=True)
class MovingFashion(Source):
    """The built-in data set of clips: drawn from a split and a number, and from nothing else.

    After Moving MNIST (Srivastava et al. 2015, arXiv 1502.04681), with an item in front of the other. A longer clip of
    the same number begins with the shorter one.
    """

    modality: ClassVar[str | None] = "video"
    usage: ClassVar[str] = "moving-fashion"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    items: FashionMnist
    """The split of Fashion-MNIST whose items move."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """The split after the colon, else the configured one.

        Raises:
            ValueError: If there is no such split.
        """
        split = rest or config.split
        if split not in COUNTS:
            hint = nearest_hint(split, tuple(COUNTS))
            raise ValueError(f"moving-fashion has the splits train and test, got {split!r}{hint}")
        return cls(items=FashionMnist(split=split, downloads=downloads))

    @classmethod
    def feature_roles(cls, modality: Modality) -> FeatureRoles:
        """Random convolutions select; the network that ships takes clips of the usual size, and reports with others."""
        if modality.shape != (1, 16, SIZE, SIZE):
            return modality.feature_roles()
        return FeatureRoles(selection="random-convolutions:1", reporting=REPORTING)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"moving-fashion:{self.items.split}"

    def identity(self) -> dict[str, Any]:
        """How clips are drawn, and the checksums of the items."""
        return {"moving-fashion": _VERSION, **self.items.identity()}

    def open(self, config: DataConfig) -> SourceManifest:
        """Read the items; each clip is drawn when it is read.

        Raises:
            ValueError: If Fashion-MNIST is not here and cannot be downloaded.
        """
        images = self.items.images()
        options: VideoOptions = config.options_for(self.modality_of(config))
        shape = (options.channels or 1, options.length, options.size or SIZE, options.size or SIZE)
        split, count = self.items.split, COUNTS[self.items.split]

        def items() -> Iterator[Item]:
            for i in evenly_spaced(count, config.limit):
                yield Item(name=str(i), label=None, read=partial(_read, images, split, i, shape))

        return SourceManifest(
            modality="video",
            count=len(evenly_spaced(count, config.limit)),
            shape=shape,
            items=items,
            licence=LICENCE,
            parallel=False,
        )


@final
@dataclass(frozen=True, kw_only=True)
class MovingItem:
    """One of the two items of a clip."""

    item: int
    """Which one of the split of Fashion-MNIST."""
    row: float
    """Where it begins, as a share of the room that it has."""
    column: float
    """The same from the left."""
    velocity: tuple[float, float]
    """Pixels of the scene per frame, down and to the right, until it bounces."""


def moving_items(count: int, split: str, number: int) -> tuple[MovingItem, MovingItem]:
    """The items of clip number ``number`` of a split, the one behind first.

    Args:
        count: Items of that split of Fashion-MNIST.
        split: Name of the split.
        number: Which clip.
    """
    found = []
    for layer in ("back", "front"):

        def uniform(what: str, layer: str = layer) -> float:
            return derived_seed("moving-fashion", split, number, layer, what) / 2**63

        speed = SPEED[0] + (SPEED[1] - SPEED[0]) * uniform("speed")
        angle = 2 * math.pi * uniform("direction")
        velocity = speed * math.sin(angle), speed * math.cos(angle)
        item = int(uniform("item") * count)
        found.append(MovingItem(item=item, row=uniform("row"), column=uniform("column"), velocity=velocity))
    return found[0], found[1]


def draw_clip(images: np.ndarray, split: str, number: int, frames: int) -> np.ndarray:
    """Clip number ``number`` of a split, in the size of the scene.

    Args:
        images: Items, uint8 ``[n, 28, 28]``.
        split: Name of the split.
        number: Which clip.
        frames: Its length.

    Returns:
        Pixels, uint8 ``[frames, 64, 64]``.
    """
    scene = np.zeros((frames, SCENE, SCENE), np.uint8)
    for moving in moving_items(len(images), split, number):
        item = images[moving.item]
        room, time = SCENE - item.shape[0], np.arange(frames)
        rows = _bouncing(room * moving.row + moving.velocity[0] * time, room)
        columns = _bouncing(room * moving.column + moving.velocity[1] * time, room)
        covers = silhouette(item)
        for frame, row, column in zip(scene, rows, columns, strict=True):
            part = frame[row : row + item.shape[0], column : column + item.shape[1]]
            part[covers] = item[covers]
    return scene


def silhouette(item: np.ndarray) -> np.ndarray:
    """Where an item hides what is behind it, bool ``[h, w]``: between its outermost pixels along rows and columns."""
    there = item > 0
    found = np.ones_like(there)
    for axis in (0, 1):
        after = np.maximum.accumulate(there, axis=axis)
        before = np.flip(np.maximum.accumulate(np.flip(there, axis), axis=axis), axis)
        found &= after & before
    return found


def _bouncing(path: np.ndarray, room: int) -> np.ndarray:
    """Places from 0 to ``room`` along a straight path that is reflected at both, rounded to whole pixels."""
    there = path % (2 * room)
    return np.rint(np.minimum(there, 2 * room - there)).astype(int)


def _read(images: np.ndarray, split: str, number: int, shape: tuple[int, int, int, int]) -> Decoded:
    channels, frames, side, _ = shape
    scene = draw_clip(images, split, number, frames)
    if SCENE % side == 0:  # means of whole blocks: items move by parts of a pixel
        fold = SCENE // side
        sums = scene.reshape(frames, side, fold, side, fold).sum(axis=(2, 4), dtype=np.uint32)
        small = ((sums + fold * fold // 2) // (fold * fold)).astype(np.uint8)
    else:
        small = np.stack([array_image(frame, ImageOptions(), (1, side, side)).values[0] for frame in scene])
    return Decoded(values=np.repeat(small[None], channels, axis=0))
