"""A model as a folder: ``config.json``, ``model.safetensors`` and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.codecs.weights import WEIGHTS as CODEC_WEIGHTS
from unistep.files import replacing_folder, unwritable
from unistep.generation.model_config import ModelConfig
from unistep.serialization import to_plain
from unistep.weights import weights_hash, write_weights

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def save(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    folder: str | Path,
    card: str,
    *,
    codec: Codec | None = None,
    bits: int = 32,
) -> None:
    """Write a model folder; it appears whole or not at all.

    Args:
        config: What the network is built from.
        weights: State of the raw network.
        folder: Where to; an existing one is replaced.
        card: Text of ``README.md``.
        codec: The codec, whose weights are written beside the network's where it has any; without, the weights that the
            configuration names.
        bits: Bits a value of the network's weights: 32 for the weights as they are, 16 for half precision, from 4 to 8
            for rounded and coded ones (:mod:`unistep.quantized`). A codec's weights are written as they are.

    Raises:
        ValueError: If the folder cannot be written, naming it and the reason, or holds something else than a model; or
            if a weight is no tensor, or has a value that so many bits cannot hold.
    """
    folder = Path(folder)
    _check_parts(config, weights)
    other = next((name for name, value in weights.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        kind = type(weights[other]).__name__
        raise ValueError(f"weights must be torch tensors, got {other!r} of type {kind}; torch.from_numpy makes one")
    tensors: Mapping[str, Tensor] = {}
    if config.codec.has_weights:
        tensors = (config.build_codec() if codec is None else codec).state_dict()
        named: Any = {"weights": CODEC_WEIGHTS, "sha256": weights_hash(tensors)}
        config = replace(config, codec=replace(config.codec, **named))  # type: ignore[type-var]
    try:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cannot write a model to {folder}: it is a file; give a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / WEIGHTS).is_file():
            raise ValueError(f"cannot write a model to {folder}: it holds other files; give another folder")
        with replacing_folder(folder) as temporary:
            text = json.dumps(to_plain(config), indent=2)
            (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
            write_weights(weights, temporary / WEIGHTS, metadata={"format": "pt"}, bits=bits)
            if tensors:
                write_weights(tensors, temporary / CODEC_WEIGHTS, metadata={"format": "pt"})
            (temporary / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise unwritable(f"cannot write {folder}: {error.strerror or error}", error) from None


def _check_parts(config: Any, weights: Any) -> None:
    """Refuse what is easily taken for a configuration or the state of a raw network.

    Raises:
        ValueError: Naming what to give.
    """
    if not isinstance(config, ModelConfig):
        raise ValueError(f"config must be a ModelConfig, such as generator.config, got a {type(config).__name__}")
    if not isinstance(weights, Mapping):
        kind = type(weights).__name__
        raise ValueError(f"weights must be a state, such as generator.map.net.state_dict(), got a {kind}")
    if weights and all(str(name).startswith("net.") for name in weights):
        with torch.random.fork_rng(devices=[]):  # a network of a person's own may have such names, too
            known = config.network.build().state_dict().keys()
        if known == {name.removeprefix("net.") for name in weights}:
            raise ValueError("weights must be those of the raw network, generator.map.net.state_dict(), not of its map")
