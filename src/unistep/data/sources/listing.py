"""The files below a folder, as they were when listed."""

from __future__ import annotations

import codecs
import os
import stat
import unicodedata
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from unistep.data.sources.base import Label
from unistep.data.sources.metadata import Line, metadata_of, read_metadata
from unistep.data.sources.paths import missing_path, printable

_MOST_TEXT = 20_000  # bytes of a text file that are read
_TEXTS = frozenset({".txt"})
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16"}
_MARKS |= {codecs.BOM_UTF16_BE: "utf-16"}  # after UTF-32, one of whose marks begins like one of UTF-16
LONGEST_TEXT = 1_000
"""Characters of a file's text that are kept: an encoder reads a few dozen words."""


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
    references: Mapping[str, Entry] = field(default_factory=dict)
    """Files of its reference signals by the name of their condition."""
    texts: tuple[str, ...] = ()
    """What it shows, in one phrasing or several."""
    notes: tuple[str, ...] = ()
    """Remarks on the texts, for the summary."""


def list_folder(path: Path, suffixes: frozenset[str] = frozenset()) -> list[Entry]:
    """Every file below a folder, but for hidden ones, in the order of their names; those that its metadata lists.

    Args:
        path: The folder.
        suffixes: How names of reference files end that its metadata may list.

    Raises:
        ValueError: If the path is not a folder, or cannot be read, or its metadata is not what it should be.
    """
    try:
        if not path.is_dir():
            raise ValueError(missing_path(path, "a folder"))
        with os.scandir(path):  # what is wrong with a folder further down is said of that one
            pass
        metadata = metadata_of(path)
    except OSError as error:
        raise ValueError(
            f"the folder {path} cannot be read: {error.strerror}; give yourself the right to list and enter it"
        ) from error
    if metadata is not None:
        return [_listed(path, name, line) for name, line in read_metadata(metadata, suffixes).items()]
    return sorted(_walk(path), key=lambda entry: os.fsencode(entry.name))


def has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a name says that it is a file of these, or that of a folder that could not be listed."""
    return name.endswith("/") or os.path.splitext(name)[1].lower() in suffixes


def with_folder_labels(entries: list[Entry], suffixes: frozenset[str]) -> list[Entry]:
    """Label each file with its top sub-folder, where at least two of those have files with these suffixes."""
    named = [entry.name for entry in entries if has_suffix(entry.name, suffixes) and not entry.trouble]
    classes = {name.split("/", 1)[0] for name in named if "/" in name}
    if len(classes) < 2:
        return entries
    return [
        replace(entry, label=printable(entry.name.split("/", 1)[0])) if "/" in entry.name else entry
        for entry in entries
    ]


def with_captions(path: Path, entries: list[Entry], suffixes: frozenset[str]) -> list[Entry]:
    """Give each file with these suffixes the text beside it: the first line of ``cat.txt`` for ``cat.png``.

    The files with texts are no longer listed, whether they are empty or not. They are UTF-8, or UTF-16 or UTF-32 with a
    byte order mark, as Windows writes them. A text is cut where it is too long, bytes that are not UTF-8 are replaced,
    and what has NUL bytes is no text; a note says so.

    Args:
        path: The folder.
        entries: Its files, those with the texts among them.
        suffixes: How names of files end that may have a text.
    """
    texts = [entry.name for entry in entries if has_suffix(entry.name, _TEXTS) and not entry.trouble]
    beside = {os.path.splitext(name)[0]: name for name in texts}  # a.txt comes after a.TXT, and counts

    used: set[str] = set()

    def captioned(entry: Entry) -> Entry:
        name = beside.get(os.path.splitext(entry.name)[0])
        if name is None or not has_suffix(entry.name, suffixes):
            return entry
        with (path / name).open("rb") as file:
            text = _first_line(file.read(_MOST_TEXT))
        used.add(name)
        if not text:
            return replace(entry, notes=("its text is empty",))
        if "\0" in text:
            return replace(entry, notes=("its text is not UTF-8, and is not used",))
        found = _with_texts(entry, (text,))
        return replace(found, notes=(*found.notes, "its text is not UTF-8")) if "\ufffd" in text else found

    try:
        found = [captioned(entry) for entry in entries]
        return [entry for entry in found if entry.name not in used]
    except OSError as error:
        raise ValueError(f"a text in {path} cannot be read: {error}; remove it or mend its rights") from error


def _first_line(content: bytes) -> str:
    """The first line of a text file that is not blank."""
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    text = decoder.decode(content, final=len(content) < _MOST_TEXT)  # else its last character may be cut: left out
    return next((line for line in map(str.strip, text.splitlines()) if line), "")


def _listed(path: Path, name: str, line: Line) -> Entry:
    """A file that the metadata lists, with its reference files."""
    references = {key: _entry(path / other, other) for key, other in line.references.items()}
    return replace(_with_texts(_entry(path / name, name, line.label), line.texts), references=references)


def _with_texts(entry: Entry, texts: tuple[str, ...]) -> Entry:
    """A file with its texts, cut where they are too long, and without characters that a terminal obeys."""
    plain = ("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).strip() for text in texts)
    texts = tuple(text for text in plain if text)
    cut = any(len(text) > LONGEST_TEXT for text in texts)
    notes = (f"its text was cut to {LONGEST_TEXT:,} characters",) if cut else ()
    return replace(entry, texts=tuple(text[:LONGEST_TEXT] for text in texts), notes=notes)


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
