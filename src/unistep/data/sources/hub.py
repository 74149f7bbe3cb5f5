"""A data set of the Hugging Face Hub, or of a local path that its ``datasets`` package understands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, Label, Source, SourceManifest
from unistep.data.sources.limits import evenly_spaced
from unistep.modalities.base import Decoded
from unistep.modalities.image import ImageModality
from unistep.modalities.image_options import ImageOptions
from unistep.modalities.image_reading import decode
from unistep.modalities.unusable import UnusableFileError


@dataclass(frozen=True, kw_only=True)
class HuggingFace(Source):
    """The first image column, with the first class column as labels; data only, no code of the data set is run."""

    modality: ClassVar[str | None] = "image"
    usage: ClassVar[str] = "hf:NAME"

    dataset: str
    """Name on the Hub, or a path."""
    split: str
    """Name of the split."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """The data set after the colon, with its split after another one.

        Raises:
            ValueError: If there is no name.
        """
        del downloads
        if not rest:
            raise ValueError("hf: needs a name after the colon, such as hf:OWNER/NAME")
        name, colon, split = rest.rpartition(":")
        return cls(dataset=name if colon else rest, split=split if colon else config.split)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"hf:{self.dataset}:{self.split}"

    @cached_property
    def table(self) -> Any:
        """The loaded split.

        Raises:
            ValueError: If ``datasets`` is not installed, or does not find the data set or the split.
        """
        try:
            from datasets import load_dataset  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ValueError("hf: sources need the package datasets; pip install 'unistep[data]'") from error
        try:
            return load_dataset(self.dataset, split=self.split)
        except Exception as error:  # it raises many kinds, for names, splits, network and broken files
            lines = str(error).strip().splitlines()
            raise ValueError(f"cannot load {self.name}: {lines[0] if lines else type(error).__name__}") from error

    def identity(self) -> dict[str, Any]:
        """The prepared files' names, which hold the version, and the size and columns of the table."""
        files = sorted(str(file["filename"]) for file in self.table.cache_files)
        return {"hf": self.name, "files": files, "rows": self.table.num_rows, "columns": str(self.table.features)}

    def open(self, config: DataConfig) -> SourceManifest:
        """Find the columns.

        Raises:
            ValueError: If there is no image column.
        """
        from datasets import ClassLabel, Image  # pyright: ignore[reportMissingImports]

        features = self.table.features
        column = next((key for key, kind in features.items() if isinstance(kind, Image)), None)
        if column is None:
            raise ValueError(f"{self.name} has no image column; its columns are {', '.join(features)}")
        label = next((key for key, kind in features.items() if isinstance(kind, ClassLabel)), None)
        wanted = [column] if label is None else [column, label]
        # Undecoded, so that our own decoder can name the broken images that it skips.
        table = self.table.select_columns(wanted).cast_column(column, Image(decode=False))
        chosen = evenly_spaced(table.num_rows, config.limit)
        options: ImageOptions = config.options_for(self.modality_of(config))
        shape = ImageModality.item_shape(options)

        def items() -> Iterator[Item]:
            for i in chosen:
                row = table[i]
                number: Label = None if label is None else row[label]
                yield Item(name=f"row {i}", label=number, read=partial(_read, row[column], shape, options))

        return SourceManifest(
            modality="image",
            count=len(chosen),
            shape=shape,
            items=items,
            label_names=() if label is None else tuple(features[label].names),
            one_channel_if_equal=ImageModality.one_channel_if_equal(options),
        )


def _read(image: dict[str, Any] | None, shape: tuple[int, ...], options: ImageOptions) -> Decoded:
    content = None if image is None else image.get("bytes") or image.get("path")
    if not content:
        raise UnusableFileError("no image in this row")
    found = decode(
        content if isinstance(content, bytes) else Path(content),
        size=(shape[1], shape[2]),
        channels=1 if shape[0] == 1 else 3,
        fit=options.fit,
        background=options.background,
    )
    return Decoded(values=found.values, notes=found.notes)
