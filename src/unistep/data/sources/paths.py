"""Paths that a person wrote: what is wrong with one, in one line."""

from __future__ import annotations

from pathlib import Path

from unistep.spelling import nearest_hint

_SHOWN = 60  # characters of a path that is too long to be one


def path_of(text: str, usage: str) -> Path:
    """A path as a person wrote it, with ``~`` for the home folder.

    Args:
        text: The path.
        usage: How the source is written, such as ``folder:PATH``, for messages.

    Raises:
        ValueError: If it is empty, has a NUL byte, or has a name that is too long for any file system.
    """
    if not text.strip():
        raise ValueError(f"{usage.partition(':')[0]}: needs a path after the colon, such as {usage}; got {text!r}")
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    if "\0" in text:
        raise ValueError(f"a path cannot have a NUL byte, got {shown!r}; leave it out")
    longest = max((len(part.encode("utf-8", "surrogatepass")) for part in Path(text).parts), default=0)
    if longest > 255 or len(text.encode("utf-8", "surrogatepass")) > 4095:
        raise ValueError(f"no file can have a name of {longest:,} bytes (at most 255), got {shown!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{shown!r} names no home folder: {error}") from None


def missing_path(path: Path, expected: str) -> str:
    """A line that says that ``path`` is not what is expected, with the nearest name beside it."""
    if path.exists():
        return f"{path} is not {expected}"
    try:
        beside = tuple(entry.name for entry in path.parent.iterdir())
    except OSError:
        beside = ()
    return f"{path} does not exist, expected {expected}{nearest_hint(path.name, beside)}"


def printable(name: str) -> str:
    """A file name that any terminal takes: bytes that are not UTF-8, and control characters, are escaped."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
