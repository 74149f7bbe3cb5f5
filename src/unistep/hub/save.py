"""A model as a folder: ``config.json``, ``model.safetensors`` and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from unistep.files import replacing_folder
from unistep.generator import ModelConfig
from unistep.serialization import to_plain

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def save(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path, card: str) -> None:
    """Write a model folder; it appears whole or not at all.

    Args:
        config: What the network is built from.
        weights: State of the raw network.
        folder: Where to; an existing one is replaced.
        card: Text of ``README.md``.

    Raises:
        ValueError: If the folder cannot be written, naming it and the reason.
    """
    try:
        with replacing_folder(folder) as temporary:
            text = json.dumps(to_plain(config), indent=2)
            (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
            tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
            save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
            (temporary / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror or error}") from None
