"""``metadata.jsonl`` or ``metadata.csv``: the files of a folder that are meant, with their labels and what belongs to
them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unistep.data.sources.base import Label

METADATA = ("metadata.jsonl", "metadata.csv")
"""One JSON object a line, or one row a file below the names of the columns: ``file_name`` and, if wanted, ``label``,
``text`` and files of reference signals. Where there are both, the first is used."""

RESERVED = ("context", "guidance")
"""Names of conditions that have a meaning of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What is listed of one file."""

    label: Label = None
    """Its class."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Files of its reference signals by the name of their condition, relative to the folder and with slashes."""
    texts: tuple[str, ...] = ()
    """What it shows, in one phrasing or several."""


def metadata_of(folder: Path) -> Path | None:
    """The file that lists what is meant of a folder, where it has one."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def read_metadata(path: Path, suffixes: frozenset[str] = frozenset()) -> dict[str, Line]:
    """The files that are listed, relative to the folder and with slashes, in order, with what belongs to them.

    Lines end with a line feed, after a carriage return or not; blank ones, and a byte order mark, are passed over. In a
    table an empty cell says nothing, and labels that are all whole numbers are numbers.

    Args:
        path: The file.
        suffixes: How names of reference files end; further keys with other values are ignored.

    Raises:
        ValueError: If it cannot be read, lists nothing, or has a line that is not what it should be; names the line.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line} is not UTF-8: byte 0x{error.object[error.start]:02x}") from error
    listed: dict[str, Line] = {}
    for where, record in (_table if path.suffix == ".csv" else _objects)(text, path):
        name, found = _entry(record, where, suffixes)
        if name in listed:
            raise ValueError(f"{where}: {name!r} was listed before")
        listed[name] = found
    if not listed:
        raise ValueError(f"{path} is empty; list the files in it, one a line, or remove it to use all of them")
    return listed


def _objects(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each object stands, and the object."""
    for number, line in enumerate(text.split("\n"), start=1):  # other separators of lines may stand in a value
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("file_name"), str) or not record["file_name"]:
            raise ValueError(f'{where} must be like {{"file_name": "a.png", "label": "cat"}}, got {line.strip()[:60]}')
        yield where, record


def _table(text: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row of a table stands, and what its cells say by the name of their column."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, dict[str, Any]]] = []
    try:
        if "file_name" not in (reader.fieldnames or ()):
            names = ", ".join(reader.fieldnames or ()) or "nothing"
            raise ValueError(f"{path} must begin with the names of its columns, file_name among them, got {names[:60]}")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if None in cells:
                raise ValueError(f"{where} has more cells than there are columns; put a text with commas in quotes")
            found = {name: cell for name, cell in cells.items() if cell}
            if "file_name" not in found:
                raise ValueError(f"{where} names no file in the column file_name")
            rows.append((where, found))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.reader.line_num} is no row of a table: {error}") from error
    labels = [found["label"] for _, found in rows if "label" in found]
    if all(label.isascii() and label.isdecimal() for label in labels):
        rows = [(where, found | {"label": int(found["label"])} if "label" in found else found) for where, found in rows]
    yield from rows


def _entry(record: Mapping[str, Any], where: str, suffixes: frozenset[str]) -> tuple[str, Line]:
    name, label = _path(record["file_name"], "file_name", where), record.get("label")
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        raise ValueError(f"{where}: label must be a name or a number, got {label!r}")
    if isinstance(label, str) and ("\0" in label or any("\ud800" <= c <= "\udfff" for c in label)):
        raise ValueError(f"{where}: label must be text without NUL and lone surrogates, got {label!r}")
    if isinstance(label, int) and label < 0:
        raise ValueError(f"{where}: label must be 0 or more, got {label}; leave it out of a file without a label")
    references = {
        key: _path(value, key, where)
        for key, value in record.items()
        if key not in ("file_name", "label", "text") and isinstance(value, str) and _suffix(value) in suffixes
    }
    for key in references:
        if not key.isidentifier() or key in RESERVED:
            raise ValueError(f"{where}: the condition of a reference file must be a single word, got {key!r}")
    return name, Line(label=label, references=references, texts=_texts(record.get("text"), where))


def _texts(value: object, where: str) -> tuple[str, ...]:
    """One text or several phrasings; empty ones are left out."""
    several: list[Any] = [] if value is None else value if isinstance(value, list) else [value]
    for text in several:
        if not isinstance(text, str):
            raise ValueError(f"{where}: text must be a text or a list of several, got {text!r}")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise ValueError(f"{where}: text must be without lone surrogates, got {text[:60]!r}")
    return tuple(text.strip() for text in several if text.strip())


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _path(name: str, key: str, where: str) -> str:
    """A file inside the folder, with slashes."""
    if "\0" in name or not _is_name(name):
        raise ValueError(f"{where}: {key} must be a name that a file can have, got {name!r}")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{where}: {key} must lie inside the folder, got {name!r}")
    return Path(name).as_posix()


def _is_name(name: str) -> bool:
    """Whether the system can write a name: half of a surrogate pair only as it stands for a byte that is no UTF-8."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
