"""A model as a folder: ``config.json``, ``model.safetensors`` and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from unistep.files import replacing_folder
from unistep.generator import ModelConfig
from unistep.serialization import to_plain

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def write_weights(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file.

    Raises:
        OSError: If it cannot be written; the library has an error of its own for that, which nobody expects.
    """
    try:
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(plain, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error).removeprefix("Error while serializing: ")) from None
    # Some versions make the file private to its owner; it gets the rights that the system gave the folder.
    path.chmod(path.parent.stat().st_mode & 0o666)


def save(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path, card: str) -> None:
    """Write a model folder; it appears whole or not at all.

    Args:
        config: What the network is built from.
        weights: State of the raw network.
        folder: Where to; an existing one is replaced.
        card: Text of ``README.md``.

    Raises:
        ValueError: If the folder cannot be written, naming it and the reason, or holds something else than a model.
    """
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
        raise ValueError(f"cannot write {folder}: {error.strerror or error}") from None
