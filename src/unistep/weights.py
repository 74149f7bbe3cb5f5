"""Weights as safetensors files with a checksum of their bytes; nothing in one is ever executed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from unistep.files import check_readable
from unistep.quantized import BITS, in_half, quantize, read_description, restore

CHECKSUM = "sha256"
"""Key of a safetensors file's metadata that holds the SHA-256 of its data section, in hexadecimal."""
_BLANK = "0" * 64
_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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


def check_bits(bits: int) -> None:
    """Check how many bits a value is to have in a file.

    Raises:
        ValueError: If files cannot have as many.
    """
    if bits not in (*BITS, 16, 32):
        raise ValueError(f"bits must be from {BITS[0]} to {BITS[-1]}, 16 (half precision) or 32 (exact), got {bits}")


def write_weights(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None, *, bits: int = 32
) -> None:
    """Write tensors to a safetensors file, whose metadata gets a checksum of their bytes beside what is given.

    Args:
        tensors: What to write, by name.
        path: The file.
        metadata: What its header is to say.
        bits: 32 for the tensors as they are, 16 for half precision, from 4 to 8 for rounded and coded ones
            (:mod:`unistep.quantized`). :func:`read_weights` reads all of them.

    Raises:
        OSError: If it cannot be written; the library has an error of its own for that, which nobody expects.
        ValueError: If files cannot have as many bits, or these cannot hold a value.
    """
    check_bits(bits)
    if bits == 16:
        tensors = {name: in_half(value, name) for name, value in tensors.items()}
    elif bits < 16:
        tensors, known = quantize(tensors, bits)
        metadata = {**(metadata or {}), **known}
    try:
        save_file(_apart(tensors), path, metadata={**(metadata or {}), CHECKSUM: _BLANK})
        _fill_in_checksum(path)
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while serializing: ")
        number = re.search(r"os error (\d+)", reason)
        raise (OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(reason)) from None
    # Some versions make the file private to its owner; it gets the rights that the system gave the folder.
    path.chmod(path.parent.stat().st_mode & 0o666)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as the library takes them: on the CPU, in one piece, and none in the memory of another."""
    found, taken = dict[str, Tensor](), set[int]()
    for name, value in tensors.items():
        plain = value.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in taken else plain
        taken.add(place)
    return found


def _fill_in_checksum(path: Path) -> None:
    """Put the checksum where the header holds its place: the library alone knows the order of the data."""
    with path.open("r+b") as file:
        place = 8 + read_header(file).index(f'"{_BLANK}"'.encode()) + 1
        checksum = data_checksum(file)
        file.seek(place)
        file.write(checksum.encode())


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; those that are stored in 4 to 8 bits a value come back in float32.

    Raises:
        ValueError: If the file is missing, unreadable or corrupt, or its tensors are not those of its checksum. A file
            without a checksum, as other programs write it, is accepted.
    """
    check_readable(path)  # the library takes any failure for a missing file
    try:
        entries = load_file(path)
        with path.open("rb") as file:
            metadata = _metadata(file)
            whole = CHECKSUM not in metadata or data_checksum(file) == metadata[CHECKSUM]
        weights = restore(entries, metadata) if whole else {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not whole:
        raise ValueError(
            f"{path} is damaged: its tensors do not fit the checksum in its header; copy or train it again"
        )
    return weights


@dataclass(frozen=True, kw_only=True)
class WeightSummary:
    """What the header of a safetensors file says."""

    parameters: int
    """Number of values of all tensors."""
    precision: str
    """How they are stored, such as ``float16`` or ``7 bits a value``."""


def summarize_weights(path: Path) -> WeightSummary:
    """How many values a safetensors file has, and how it stores them, from its header alone.

    Raises:
        ValueError: If the file is missing or corrupt.
    """
    check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            known = read_description(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: value.get_shape() for name, value in slices.items()}
            types: Counter[str] = Counter()
            for name, value in slices.items():
                types[value.get_dtype()] += math.prod(shapes[name])
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if known is not None:
        total = sum(math.prod(shape) for shape in known.plain_shapes(shapes).values())
        return WeightSummary(parameters=total, precision=f"{known.bits} bits a value")
    most = types.most_common(1)[0][0] if types else "F32"
    return WeightSummary(parameters=types.total(), precision=_NAMES.get(most, most))


def _metadata(file: BufferedIOBase) -> dict[str, str]:
    """What the header of a safetensors file says beside the tensors; the file is left at its data section."""
    return json.loads(read_header(file)).get("__metadata__", {})


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is not a readable safetensors file ({error}); copy or train it again")
