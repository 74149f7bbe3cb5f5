"""Writing files so that a reader finds the old content or the new, never half of either."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.ENFILE, errno.EMFILE})
"""What can happen at any place, rightly named: no room, a quota, a broken disk, a system that has run out."""


_LONGEST = 255
"""Bytes that one part of a path may have, on every usual file system."""


def checked_path(path: str | Path) -> Path:
    """A path that a file can have, with ``~`` resolved.

    Args:
        path: What a person gave.

    Raises:
        ValueError: If no file can have that name: it is empty, has a NUL, or a part of it is too long.
    """
    text = str(path)
    if not text.strip():
        raise ValueError("a file name is empty; give one")
    if "\0" in text:
        raise ValueError(f"no file can have a NUL character in its name, got {text[:40]!r}")
    longest = max((len(os.fsencode(part)), part) for part in text.split(os.sep))
    if longest[0] > _LONGEST:
        raise ValueError(f"the file name {longest[1][:20]}... has {longest[0]} bytes; at most {_LONGEST} are possible")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{text[:40]}: there is no such user's home folder") from None


def user_cache() -> Path:
    """Where what can be made again is kept between runs: ``$UNISTEP_CACHE``, else ``~/.cache/unistep``."""
    given = os.environ.get("UNISTEP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "unistep"


class DiskError(ValueError):
    """A file cannot be written though its place is a right one: the disk is full or broken. Exit code 1."""


def unwritable(line: str, error: OSError) -> ValueError:
    """The error to raise with ``line`` where writing failed: a :class:`DiskError` where another name would not help."""
    return (DiskError if error.errno in _OF_THE_DISK else ValueError)(line)


def check_readable(path: Path) -> None:
    """Find out whether a file can be opened, for libraries that take any failure for a missing file.

    Raises:
        ValueError: If not, naming it and the reason.
    """
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def sync(path: Path) -> None:
    """Ask the system to put a file or a directory on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path, ending: str) -> Path:
    """A hidden name that nobody else has: processes of two containers may share a volume and have one number."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{ending}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; it takes its place when the block ends well, and vanishes when it does not.

    Raises:
        ValueError: If the place cannot be written to, naming it and the reason; a :class:`DiskError` on a full disk.
    """
    temporary = _beside(path, f"tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise unwritable(f"cannot write {path}: {error.strerror or error}", error) from None
    finally:
        with suppress(OSError):  # where there is no such folder, nothing is left in it either
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file at once."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that is renamed to it, synced, when the block ends well.

    Raises:
        OSError: What writing raised, after the temporary folder was removed; ``path`` is then as it was.
    """
    temporary = _beside(path, "tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for item in temporary.iterdir():
            sync(item)
        sync(temporary)
        remove_folder(path, by=lambda: temporary.rename(path))
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path, by: Callable[[], object] = lambda: None) -> None:
    """Delete a folder that others may be reading: it leaves its place at once, not file by file.

    Args:
        path: The folder; it need not exist.
        by: Called between its leaving and its deletion, to put another in its place; if that fails, it comes back.
    """
    aside = _beside(path, "old.tmp")
    existed = path.exists()
    if existed:
        path.rename(aside)
    try:
        by()
    except OSError:
        if existed:
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def remove_unfinished(path: Path) -> None:
    """Delete what killed processes left half-written of a folder, which nobody may be writing."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def remove_leftovers(folder: Path, seconds: float = 0.0) -> None:
    """Delete what killed processes left half-written.

    Args:
        folder: Where; nobody may be writing there, but for what is younger.
        seconds: How old it must be.
    """
    before = time.time() - seconds
    for left in folder.glob(".*.tmp*"):
        with suppress(FileNotFoundError):  # another process has removed it, or finished it
            if left.stat().st_mtime > before:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
