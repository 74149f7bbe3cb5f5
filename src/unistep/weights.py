"""Weights as safetensors files with a checksum of their bytes; nothing in one is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unistep.files import check_readable

CHECKSUM = "sha256"
"""Key of a safetensors file's metadata that holds the SHA-256 of its data section, in hexadecimal."""
_BLANK = "0" * 64


def read_header(file: BufferedIOBase) -> bytes:
    """The JSON header of a safetensors file, from its beginning; the file is left at its data section."""
    file.seek(0)
    return file.read(int.from_bytes(file.read(8), "little"))


def data_checksum(file: BufferedIOBase) -> str:
    """SHA-256 of what is left of a file, in hexadecimal."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values of tensors, in hexadecimal; their order does not matter."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def in_half(tensor: Tensor) -> Tensor:
    """A tensor in half precision, where it holds numbers with a fraction."""
    return tensor.half() if tensor.is_floating_point() else tensor


def write_weights(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, whose metadata gets a checksum of their bytes beside what is given.

    Raises:
        OSError: If it cannot be written; the library has an error of its own for that, which nobody expects.
    """
    try:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, path, metadata={**(metadata or {}), CHECKSUM: _BLANK})
        _fill_in_checksum(path)
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while serializing: ")
        number = re.search(r"os error (\d+)", reason)
        raise (OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(reason)) from None
    # Some versions make the file private to its owner; it gets the rights that the system gave the folder.
    path.chmod(path.parent.stat().st_mode & 0o666)


def _fill_in_checksum(path: Path) -> None:
    """Put the checksum where the header holds its place: the library alone knows the order of the data."""
    with path.open("r+b") as file:
        place = 8 + read_header(file).index(f'"{_BLANK}"'.encode()) + 1
        checksum = data_checksum(file)
        file.seek(place)
        file.write(checksum.encode())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: If the file is missing, unreadable or corrupt, or its tensors are not those of its checksum. A file
            without a checksum, as other programs write it, is accepted.
    """
    check_readable(path)  # the library takes any failure for a missing file
    try:
        weights = load_file(path)
        with path.open("rb") as file:
            expected = json.loads(read_header(file)).get("__metadata__", {}).get(CHECKSUM)
            whole = expected is None or data_checksum(file) == expected
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}); copy or train it again") from None
    if not whole:
        raise ValueError(
            f"{path} is damaged: its tensors do not fit the checksum in its header; copy or train it again"
        )
    return weights
