"""A folder of pictures or sounds: any mix of sizes and formats, with labels from sub-folders or ``metadata.jsonl``."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from unistep.data.options import DataConfig
from unistep.data.source import DEFAULT_SIZE, Item, Label, Source, SourceManifest, evenly_spaced, missing_path
from unistep.data.sources.metadata import METADATA, read_metadata
from unistep.data.sources.recordings import Recording, windows
from unistep.data.sources.sounds import sound_contents, sound_item
from unistep.data.summary import printable
from unistep.modalities import audio_reading as sound
from unistep.modalities.image_reading import SUFFIXES, Picture, UnusablePictureError, decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file of the folder as it was when listed."""

    name: str
    """Path relative to the folder, with slashes."""
    size: int = 0
    """Length in bytes."""
    mtime: int = 0
    """Time of the last change, in nanoseconds."""
    trouble: str = ""
    """Why it cannot be read, where that is known already."""
    label: Label = None
    """Its class."""


@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """Every file below a folder, but for hidden ones, in the order of their names.

    Links are followed. With ``metadata.jsonl`` only the files that it lists are used.
    """

    path: Path
    """The folder."""

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"folder:{printable(str(self.path))}"

    @cached_property
    def entries(self) -> list[Entry]:
        """The files, listed once; labels that sub-folders give are left to :meth:`open`, as they follow from the names.

        Raises:
            ValueError: If the path is not a folder, or cannot be read, or ``metadata.jsonl`` is not what it should be.
        """
        try:
            if not self.path.is_dir():
                raise ValueError(missing_path(self.path, "a folder"))
            with os.scandir(self.path):  # what is wrong with a folder further down is said of that one
                pass
            has_metadata = (self.path / METADATA).is_file()
        except OSError as error:
            raise ValueError(
                f"the folder {self.path} cannot be read: {error.strerror}; give yourself the right to list and enter it"
            ) from error
        if has_metadata:
            listed = read_metadata(self.path / METADATA)
            return [_entry(self.path / name, name, label) for name, label in listed.items()]
        return sorted(_walk(self.path), key=lambda entry: os.fsencode(entry.name))

    def identity(self) -> dict[str, Any]:
        """Place of the folder, and name, length, time of change and label of each file."""
        files = [[e.name, e.size, e.mtime, e.trouble, e.label] for e in self.entries]
        return {"folder": str(self.path.resolve()), "files": files}

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to read the files.

        Raises:
            ValueError: If the folder has none.
        """
        entries = self.entries
        if not entries:
            raise ValueError(f"{self.path} has no files; give a folder with pictures or sounds")
        wanted = sound.SUFFIXES if self._kind(config) == "sound" else SUFFIXES
        if not (self.path / METADATA).is_file():
            entries = _with_folder_labels(entries, wanted)
        if self._kind(config) == "sound" and config.cut == "windows":
            return windows([self._recording(entry) for entry in entries], config)
        claiming = [entry for entry in entries if _claims(entry.name, wanted)]
        others = [entry for entry in entries if not _claims(entry.name, wanted)]
        chosen = [claiming[i] for i in evenly_spaced(len(claiming), config.limit)]
        # A file with no picture's name may still be one; it is asked, but not where that could exceed the limit.
        chosen += others if config.limit is None else others[: max(0, config.limit - len(chosen))]
        chosen.sort(key=lambda entry: os.fsencode(entry.name))
        if self._kind(config) == "sound":
            return sound_contents(config, len(chosen), lambda: (self._sound(entry, config) for entry in chosen))
        side = config.size or DEFAULT_SIZE

        def items() -> Iterator[Item]:
            for entry in chosen:
                yield Item(
                    name=printable(entry.name),
                    label=entry.label,
                    read=partial(self._read, entry, (side, side), config),
                    expected_type=_claims(entry.name, SUFFIXES),
                )

        return SourceManifest(
            count=len(chosen),
            shape=(config.channels or 3, side, side),
            items=items,
            may_be_grey=config.channels is None,
        )

    def _kind(self, config: DataConfig) -> str:
        """``picture`` or ``sound``: as configured, else whichever more of the files claim to be."""
        if config.kind is not None:
            return config.kind
        endings = [os.path.splitext(entry.name)[1].lower() for entry in self.entries]
        sounds, pictures = (sum(ending in suffixes for ending in endings) for suffixes in (sound.SUFFIXES, SUFFIXES))
        return "sound" if sounds > pictures else "picture"

    def _read(self, entry: Entry, size: tuple[int, int], config: DataConfig) -> Picture:
        if entry.trouble:
            raise UnusablePictureError(entry.trouble, recognised=False)
        return decode(
            self.path / entry.name,
            size=size,
            channels=1 if config.channels == 1 else 3,
            fit=config.fit,
            background=config.background,
        )

    def _sound(self, entry: Entry, config: DataConfig) -> Item:
        claims = _claims(entry.name, sound.SUFFIXES)
        name = printable(entry.name)
        return sound_item(
            self.path / entry.name, name, entry.label, config, expected_type=claims, trouble=entry.trouble
        )

    def _recording(self, entry: Entry) -> Recording:
        return Recording(
            path=self.path / entry.name,
            name=printable(entry.name),
            label=entry.label,
            expected_type=_claims(entry.name, sound.SUFFIXES),
            trouble=entry.trouble,
        )


def _claims(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a name says that it is a picture's, or a sound's, or that of a folder that could not be listed."""
    return name.endswith("/") or os.path.splitext(name)[1].lower() in suffixes


def _entry(path: Path | os.DirEntry[str], name: str, label: Label = None) -> Entry:
    try:
        status = path.stat()
    except OSError as error:
        broken_link = path.is_symlink() and isinstance(error, FileNotFoundError)
        return Entry(name=name, trouble="broken link" if broken_link else str(error.strerror), label=label)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        return Entry(name=name, trouble="not a regular file", label=label)
    return Entry(name=name, size=status.st_size, mtime=status.st_mtime_ns, label=label)


def _walk(root: Path) -> Iterator[Entry]:
    """Every file below ``root`` that is not hidden; a folder that is there several times, by links, is entered once."""
    seen: set[tuple[int, int]] = set()
    waiting, links = deque([""]), deque[str]()
    while waiting or links:
        # Links come last: what is below ``root`` under a name of its own keeps that name, and with it its label.
        below = (waiting or links).popleft()
        try:
            status = (root / below).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / below) as found:
                children = sorted(found, key=lambda child: os.fsencode(child.name))
        except OSError as error:
            yield Entry(name=f"{below}/" if below else "./", trouble=f"folder cannot be read: {error.strerror}")
            continue
        for child in children:
            if child.name.startswith(".") or child.name == "__MACOSX":
                continue
            name = f"{below}/{child.name}" if below else child.name
            try:
                is_folder = child.is_dir()
            except OSError:  # a link to itself; what is wrong with it is said of the file
                is_folder = False
            if is_folder:
                (links if child.is_symlink() else waiting).append(name)
            else:
                yield _entry(child, name)


def _with_folder_labels(entries: list[Entry], suffixes: frozenset[str]) -> list[Entry]:
    """Label each file with its top sub-folder, where at least two of those have what is wanted."""
    classes = {entry.name.split("/", 1)[0] for entry in entries if "/" in entry.name and _claims(entry.name, suffixes)}
    if len(classes) < 2:
        return entries
    return [
        replace(entry, label=printable(entry.name.split("/", 1)[0])) if "/" in entry.name else entry
        for entry in entries
    ]
