"""Finding out before long work whether its result can be written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from unistep.files import checked_path, unwritable
from unistep.spelling import nearest_hint


def check_file(path: str | Path, endings: tuple[str, ...]) -> Path:
    """Check that a file can be written, leaving nothing behind.

    Args:
        path: The file; missing folders above it would be made.
        endings: How its name may end.

    Returns:
        The path with ``~`` resolved.

    Raises:
        ValueError: If it cannot, with the reason.
    """
    target = checked_path(path)
    if str(path).endswith(("/", os.sep)) or target.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder, wanted a file such as out{endings[0]}")
    if target.suffix.lower() not in endings:
        hint = nearest_hint(target.suffix, endings)
        raise ValueError(f"cannot write {path}: its name must end with {' or '.join(endings)}{hint}")
    check_folder(target.parent, Path(path))
    return target


def check_folder(folder: Path, named: Path | None = None) -> Path:
    """Check that a folder can be written to, or made.

    Args:
        folder: The folder.
        named: What the message should name instead.

    Raises:
        ValueError: If it cannot, with the reason.
    """
    folder = checked_path(folder)
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ValueError(f"cannot write {named or folder}: {existing} is a file, not a folder")
    try:
        with tempfile.TemporaryFile(dir=existing):  # only trying tells, for a superuser and on read-only disks
            pass
    except OSError as error:
        raise unwritable(f"cannot write {named or folder}: {error.strerror}", error) from None
    return folder
