"""Writing samples so that a file is there whole or not at all, with one clear line where it cannot be."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from unistep.files import checked_path, unwritable
from unistep.provenance import Provenance, mark_content
from unistep.spelling import closest, nearest

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Picture files by how their name ends."""
LARGEST = {"JPEG": 65_535, "WEBP": 16_383}
"""Longest side that a format can hold, in pixels."""


class TooLargeError(ValueError):
    """An image of more pixels than its format can hold."""


@dataclass(frozen=True, kw_only=True)
class Endings:
    """The files that a kind of signal can be written to."""

    noun: str
    """What is written, in the plural."""
    all: tuple[str, ...]
    """How the name of a file may end."""
    usual: str
    """Those to recommend, in words."""
    example: str
    """A file's name."""
    numbered: str
    """How the files in a folder end."""


PICTURES = Endings(
    noun="images",
    all=(*FORMATS, ".npz"),
    usual=".png, .jpg, .webp, .npz",
    example="out.png",
    numbered=".png",
)
"""Pictures, grids of them, and arrays."""


def is_folder(path: str | Path) -> bool:
    """Whether a path means a folder: it is one, ends with a slash, or has no suffix."""
    return str(path).endswith(("/", os.sep)) or Path(path).is_dir() or not Path(path).suffix


def check_path(path: str | Path, endings: Endings = PICTURES) -> None:
    """Find out whether samples can be written to ``path``, leaving nothing there.

    Args:
        path: A file, or a folder.
        endings: What a file may be.

    Raises:
        ValueError: If not, with the reason.
    """
    if not str(path):
        raise ValueError(f"the output path is empty; give one such as {endings.example}")
    target = checked_path(path)
    if str(path) == "-":
        raise ValueError(
            f"{endings.noun} go to a file or a folder, not to a pipe; give a name such as {endings.example}"
        )
    if is_folder(path):
        if target.exists() and not target.is_dir():
            raise ValueError(
                f"cannot write {endings.noun} into {path}: it is a file; end the name with one of {endings.usual}"
            )
        if target.is_dir():
            others = sorted(e.name for e in _listed(target) if not _is_numbered(e.name, endings.numbered))
            if others:
                raise ValueError(f"cannot write {endings.noun} into {path}: it holds other files ({others[0]})")
    elif target.suffix.lower() not in endings.all:
        near = closest(target.suffix, endings.all)
        hint = f"; did you mean {target.with_suffix(near).name!r}?" if near else ""
        raise ValueError(f"cannot write {path}: it must end with {endings.usual}, or / for a folder{hint}")
    inside = target if target.is_dir() else target.resolve().parent
    if not inside.is_dir():
        raise ValueError(f"cannot write {path}: the folder {inside} does not exist")
    try:
        with tempfile.TemporaryFile(dir=inside):  # only trying tells, for a superuser and on read-only disks
            pass
    except OSError as error:
        raise _failed(path, error) from error


def write_picture(image: Image.Image, path: str | Path, provenance: Provenance | None = None) -> None:
    """Write one picture in the format that its name says.

    Args:
        image: The picture.
        path: Where to.
        provenance: Where what it shows comes from, which the file then says.

    Raises:
        ValueError: If it is too large for the format, or cannot be written.
    """
    suffix = Path(path).suffix

    def content() -> bytes:
        return mark_content(encode_picture(image, suffix), suffix, provenance)

    try:
        write_whole(path, lambda file: file.write(content()))
    except TooLargeError as error:
        raise ValueError(f"cannot write {path}: {error}; use .png or a folder") from None


def encode_picture(image: Image.Image, suffix: str) -> bytes:
    """One image as the bytes of a file of the format that ``suffix`` stands for.

    Raises:
        TooLargeError: If it is too large for the format.
    """
    kind = FORMATS[suffix.lower()]
    if max(image.size) > LARGEST.get(kind, max(image.size)):
        raise TooLargeError(f"{image.width} x {image.height} pixels are too many for {kind}")
    options = {"PNG": {"optimize": True}, "JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}[kind]
    content = BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def suffix_of(format: str, endings: Endings) -> str:
    """The ending of a format that a person names, with or without the dot.

    Raises:
        ValueError: If there is no such format; names the nearest and all.
    """
    suffix = f".{str(format).lower().lstrip('.')}"
    if suffix not in endings.all:
        names = [ending.lstrip(".") for ending in endings.all]
        raise ValueError(f"unknown format {format!r} of {endings.noun}; {nearest(str(format), names)}")
    return suffix


def write_npz(batch: np.ndarray, labels: Sequence[int] | None, path: str | Path, **further: Any) -> None:
    """Write a batch, such as uint8 images ``[n, h, w, c]``, as ``arr_0``, and labels ``[n]`` as ``arr_1``.

    Raises:
        ValueError: If there is not one label for each item, or the file cannot be written.
    """
    write_whole(path, lambda file: file.write(encode_npz(batch, labels, **further)))


def encode_npz(batch: np.ndarray, labels: Sequence[int] | None = None, **further: Any) -> bytes:
    """The bytes of such a file.

    Raises:
        ValueError: If there is not one label for each item.
    """
    arrays = [np.ascontiguousarray(batch)]
    if labels is not None:
        if len(labels) != len(batch):
            raise ValueError(f"{len(labels)} labels cannot serve {len(batch)} samples")
        arrays.append(np.asarray(labels, dtype=np.int64))
    content = BytesIO()
    np.savez(content, *arrays, **further)
    return content.getvalue()


def write_folder(images: Sequence[Image.Image], path: str | Path) -> None:
    """Write numbered PNG files: all of them beside their place first, then into it.

    Raises:
        ValueError: If they cannot be written; the folder is then as it was.
    """
    fill_folder([image.save for image in images], path, ".png")


def fill_folder(writers: Sequence[Callable[[Path], object]], path: str | Path, suffix: str) -> None:
    """Let each of ``writers`` write a numbered file: all of them beside their place first, then into it.

    Raises:
        ValueError: If they cannot be written; the folder is then as it was.
    """
    folder = Path(path).expanduser()
    existed = folder.is_dir()
    staged: Path | None = None
    names = [f"{number:06d}{suffix}" for number in range(len(writers))]
    try:
        folder.mkdir(exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
        for name, write in zip(names, writers, strict=True):
            write(staged / name)
        earlier = {entry.name for entry in _listed(folder)}
        for name in names:
            (staged / name).replace(folder / name)
        for name in sorted(earlier - set(names)):
            if _is_numbered(name, suffix):  # of an earlier, larger batch: not to be taken for this one's
                (folder / name).unlink()
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        if not existed:
            with suppress(OSError):  # only an empty folder goes: one that we made and could not fill
                folder.rmdir()


def _is_numbered(name: str, suffix: str) -> bool:
    return re.fullmatch(rf"\d{{6,}}{re.escape(suffix)}", name) is not None


def _listed(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise _failed(folder, error) from error


def write_whole(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write under another name in the same folder, then rename.

    Raises:
        ValueError: If the file cannot be written.
    """
    path = Path(path).expanduser()
    unfinished: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            unfinished = Path(file.name)
            write(file)
        unfinished.chmod(0o666 & ~_umask())  # temporary files are private; a result is like any other file
        unfinished.replace(path)
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _failed(path: str | Path, error: OSError) -> ValueError:
    return unwritable(f"cannot write {path}: {error.strerror or error}", error)
