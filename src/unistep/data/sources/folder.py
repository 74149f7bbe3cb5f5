"""A folder of files of one modality: any mix of sizes and formats, with labels from sub-folders or metadata."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

from unistep import registry
from unistep.core.condition import AnyField, SignalField, TextField
from unistep.data.options import DataConfig
from unistep.data.sources.base import Item, LocalSource, SourceManifest
from unistep.data.sources.limits import evenly_spaced, shares
from unistep.data.sources.listing import Entry, has_suffix, list_folder, with_captions, with_folder_labels
from unistep.data.sources.metadata import metadata_of
from unistep.data.sources.paths import printable
from unistep.data.sources.recorded_actions import FIELD, Played, played, with_actions
from unistep.modalities.unusable import UnusableFileError

if TYPE_CHECKING:
    import numpy as np

    from unistep.modalities.base import Decoded, Modality
    from unistep.modalities.recording import Recording


LENGTH = 64
"""Most vectors of a file's text."""
LOOKED_AT = 64
"""Files whose own sizes are looked at."""


class Folder(LocalSource):
    """Every file below a folder, but for hidden ones, in the order of their names.

    Links are followed. With ``metadata.jsonl`` or ``metadata.csv`` only the files that it lists are used; further files
    on a line, such as ``{"file_name": "colour/1.png", "source": "grey/1.png"}``, are reference signals: the condition
    ``source``. A ``text`` on a line (or several, as a list) says what the file shows, and so does, without the
    metadata, the first line of ``cat.txt`` beside ``cat.png``: the condition ``text``. Of recorded play, ``race.csv``
    beside ``race.mp4``, or ``actions.csv`` beside the only video of a folder, has a row for each frame: the condition
    ``action``.

    Args:
        path: The folder.
    """

    usage: ClassVar[str] = "folder:PATH"

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"folder:{printable(str(self.path))}"

    @cached_property
    def entries(self) -> list[Entry]:
        """The files, listed once; labels that sub-folders give are left to :meth:`open`, as they follow from the names.

        Raises:
            ValueError: If the path is not a folder, or cannot be read, or its metadata is not what it should be.
        """
        known: dict[str, type[Modality]] = registry.entries("modality")
        return list_folder(self.path, frozenset(suffix for kind in known.values() for suffix in kind.suffixes))

    def identity(self) -> dict[str, Any]:
        """Where the folder is, and name, length, time of change and label of each file and its reference files."""
        files = [_identity(entry) for entry in self.entries]
        return {"folder": str(self.path.resolve()), "files": files}

    def modality_of(self, config: DataConfig) -> str:
        """The configured modality, else the one that most files belong to by their names."""
        if config.modality is not None:
            return config.modality
        known: dict[str, type[Modality]] = registry.entries("modality")
        endings = [os.path.splitext(entry.name)[1].lower() for entry in self.entries]
        counts = {name: sum(ending in kind.suffixes for ending in endings) for name, kind in known.items()}
        return max(counts, key=lambda name: counts[name])

    def filled(self, config: DataConfig) -> DataConfig:
        """With what only the files say of their modality's options."""
        options = config.options_for(self.modality_of(config))
        filled = options.filled(lambda: self.own_shapes(config))
        return config if filled == options else replace(config, options=filled)

    def own_shapes(self, config: DataConfig) -> list[tuple[int, ...]]:
        """Those of files spread over the folder, as far as their headers can be read."""
        modality: type[Modality] = registry.lookup("modality", self.modality_of(config))
        named = [entry for entry in self.entries if has_suffix(entry.name, modality.suffixes) and not entry.trouble]
        some = (modality.file_shape(self.path / named[i].name) for i in evenly_spaced(len(named), LOOKED_AT))
        return [shape for shape in some if shape is not None]

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read the files.

        Raises:
            ValueError: If the folder has none, or an option is not one of their modality.
        """
        entries = self.entries
        if not entries:
            raise ValueError(f"{self.path} has no files; give a folder with some")
        name = self.modality_of(config)
        modality: type[Modality] = registry.lookup("modality", name)
        options = config.options_for(name)
        metadata = metadata_of(self.path)
        if metadata is None:
            entries = with_folder_labels(entries, modality.suffixes)
            entries = with_captions(self.path, entries, modality.suffixes) if config.captions else entries
        fields = self._references(entries, modality, options)
        if options.windowed:
            if fields:
                raise ValueError(f"windows of recordings take no reference files, and {metadata} lists some")
            return self._windows(entries, name, config.limit, options)
        chosen = self._chosen(entries, modality, config.limit)
        fields |= _text_field(chosen) if config.captions else {}
        return SourceManifest(
            modality=name,
            count=len(chosen),
            shape=modality.item_shape(options),
            items=lambda: (self._item(e, modality, partial(self._read, e, modality, options)) for e in chosen),
            # A reference may have colours where no item has.
            one_channel_if_equal=not fields and modality.one_channel_if_equal(options),
            fields=fields,
        )

    def _references(self, entries: list[Entry], modality: type[Modality], options: Any) -> dict[str, AnyField]:
        """The conditions that are reference signals: those whose files are all of this modality, by their names."""
        files: dict[str, list[str]] = {}
        for entry in entries:
            for key, reference in entry.references.items():
                files.setdefault(key, []).append(reference.name)
        shape = modality.item_shape(options)
        return {
            key: SignalField(shape=shape)
            for key, names in sorted(files.items())
            if all(has_suffix(name, modality.suffixes) for name in names)
        }

    def _chosen(self, entries: list[Entry], modality: type[Modality], limit: int | None) -> list[Entry]:
        named = [entry for entry in entries if has_suffix(entry.name, modality.suffixes)]
        others = [entry for entry in entries if not has_suffix(entry.name, modality.suffixes)]
        chosen = [named[i] for i in evenly_spaced(len(named), limit)]
        # A file with another suffix may still be readable; it is tried, but not where that could exceed the limit.
        chosen += others if limit is None else others[: max(0, limit - len(chosen))]
        return sorted(chosen, key=lambda entry: os.fsencode(entry.name))

    def _windows(self, entries: list[Entry], name: str, limit: int | None, options: Any) -> SourceManifest:
        """Windows over the whole of each recording; ``limit`` is one of windows, of which each file has its share."""
        modality: type[Modality] = registry.lookup("modality", name)
        actions = played(self.path, entries, modality.suffixes) if modality.plays else None
        if actions is not None:
            tables = {table.name for table in actions.tables.values()}
            entries = [entry for entry in entries if entry.name not in tables]
        counts = [1 if e.trouble else modality.count_windows(self.path / e.name, options) for e in entries]
        quotas = shares(counts, limit)

        def items() -> Iterator[Item]:
            for entry, quota in zip(entries, quotas, strict=True):
                if quota:  # headers may say less than there is: without a limit all of it is taken
                    most = None if limit is None else quota
                    read = partial(self._read_windows, entry, modality, options, most, actions)
                    yield self._item(entry, modality, read)

        return SourceManifest(
            modality=name,
            count=sum(quotas),
            shape=modality.item_shape(options),
            items=items,
            parallel=False,
            windowed=True,
            fields={} if actions is None else {FIELD: actions.field},
            files=sum(quota > 0 for quota in quotas),
        )

    def _item(self, entry: Entry, modality: type[Modality], read: Any) -> Item:
        expected = has_suffix(entry.name, modality.suffixes)
        return Item(
            name=printable(entry.name),
            label=entry.label,
            read=read,
            expected_type=expected,
            condition={"text": entry.texts} if entry.texts else {},
        )

    def _read(self, entry: Entry, modality: type[Modality], options: Any) -> Decoded:
        if entry.trouble:
            raise UnusableFileError(entry.trouble, recognised=False)
        found = modality.read(self.path / entry.name, options)
        return replace(
            found,
            notes=(*found.notes, *entry.notes),
            references={k: self._reference(k, e, modality, options) for k, e in entry.references.items()},
        )

    def _reference(self, key: str, entry: Entry, modality: type[Modality], options: Any) -> np.ndarray:
        """A reference signal as it is stored; without it the item cannot be used."""
        try:
            if entry.trouble:
                raise UnusableFileError(entry.trouble, recognised=False)
            return modality.read(self.path / entry.name, options).values
        except UnusableFileError as error:
            raise UnusableFileError(f"its {key} {printable(entry.name)}: {error}", recognised=True) from None

    def _read_windows(
        self, entry: Entry, modality: type[Modality], options: Any, most: int | None, actions: Played | None
    ) -> Recording:
        if entry.trouble:
            raise UnusableFileError(entry.trouble, recognised=False)
        found = modality.read_windows(self.path / entry.name, options)
        if actions is not None and entry.name in actions.tables:
            table = self.path / actions.tables[entry.name].name
            found = with_actions(found, modality.item_shape(options)[1], table, actions.field)
        return found.only(tuple(found.starts[k] for k in evenly_spaced(len(found.starts), most)))


def _text_field(entries: list[Entry]) -> dict[str, AnyField]:
    """The condition ``text``, where files have texts; the one in the middle stands as the example."""
    texts = [entry.texts[0] for entry in entries if entry.texts]
    return {"text": TextField(length=LENGTH, dim=384, example=texts[len(texts) // 2][:60])} if texts else {}


def _identity(entry: Entry) -> list[Any]:
    found: list[Any] = [entry.name, entry.size, entry.mtime, entry.trouble, entry.label]
    found += [list(entry.texts)] if entry.texts else []
    return [*found, {key: _identity(e) for key, e in entry.references.items()}] if entry.references else found
