"""Clip art of Debian's openclipart-png: some 6,900 drawings in 21 categories, in the public domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.packages import check_part, missing_package
from unistep.modalities.image import ImageModality
from unistep.modalities.image_options import ImageOptions

FOLDER = Path("/usr/share/openclipart/png")
"""Where the package puts its files: a folder for each category."""
LICENCE = "public domain (the artists of openclipart.org)"
SIDE = 64
"""Side of the images by default, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Clipart(Source):
    """The drawings, each with its category as the label."""

    modality: ClassVar[str | None] = "image"
    usage: ClassVar[str] = "clipart"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    split: str
    """``train``, or ``test``: every tenth drawing."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """The split after the colon, else the configured one.

        Raises:
            ValueError: If there is no such split, or the package is not installed.
        """
        del downloads
        split = rest or config.split
        check_part(split, cls.splits, "clipart has the splits train and test")
        if not FOLDER.is_dir():
            raise missing_package("clipart", "openclipart-png")
        return cls(split=split)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"clipart:{self.split}"

    def identity(self) -> dict[str, Any]:
        """Names and lengths of the files."""
        return {"clipart": [[str(path.relative_to(FOLDER)), path.stat().st_size] for path in self.files()]}

    def files(self) -> list[Path]:
        """The files of this split; links are left out, as each repeats a file of another category."""
        every = sorted(path for path in FOLDER.rglob("*.png") if path.is_file() and not path.is_symlink())
        return [path for i, path in enumerate(every) if (i % 10 == 0) == (self.split == "test")]

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read."""
        options: ImageOptions = config.options_for(self.modality_of(config))
        side = options.size or SIDE
        sized = ImageOptions(**{**options.given, "size": side, "fit": options.given.get("fit", "pad")})
        files = self.files()
        chosen = evenly_spaced(len(files), config.limit)

        def items() -> Iterator[Item]:
            for i in chosen:
                name = files[i].relative_to(FOLDER)
                read = partial(ImageModality.read, files[i], sized)
                yield Item(name=str(name), label=name.parts[0].replace("_", " "), read=read)

        shape = (options.channels or 3, side, side)
        return SourceManifest(modality="image", count=len(chosen), shape=shape, items=items, licence=LICENCE)
