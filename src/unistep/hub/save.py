"""A model as a folder: ``config.json``, ``model.safetensors`` and a card."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from unistep.files import replacing_folder, unwritable
from unistep.generation.model_config import ModelConfig
from unistep.serialization import to_plain

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
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


def save(config: ModelConfig, weights: Mapping[str, Tensor], folder: str | Path, card: str) -> None:
    """Write a model folder; it appears whole or not at all.

    Args:
        config: What the network is built from.
        weights: State of the raw network.
        folder: Where to; an existing one is replaced.
        card: Text of ``README.md``.

    Raises:
        ValueError: If the folder cannot be written, naming it and the reason, or holds something else than a model; or
            if a weight is no tensor.
    """
    folder = Path(folder)
    other = next((name for name, value in weights.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        kind = type(weights[other]).__name__
        raise ValueError(f"weights must be torch tensors, got {other!r} of type {kind}; torch.from_numpy makes one")
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cannot write a model to {folder}: it is a file; give a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / WEIGHTS).is_file():
            raise ValueError(f"cannot write a model to {folder}: it holds other files; give another folder")
        with replacing_folder(folder) as temporary:
            text = json.dumps(to_plain(config), indent=2)
            (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
            write_weights(weights, temporary / WEIGHTS, metadata={"format": "pt"})
            (temporary / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise unwritable(f"cannot write {folder}: {error.strerror or error}", error) from None
