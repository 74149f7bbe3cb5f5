"""Codecs with their weights, from the file beside a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unistep.codecs.base import Codec, CodecConfig
from unistep.files import replacing
from unistep.weights import read_weights, weights_hash, write_weights

WEIGHTS = "codec.safetensors"
"""Name of a codec's weights in a model's folder."""


def build_codec(config: CodecConfig, signal_shape: tuple[int, ...], folder: Path | None = None) -> Codec:
    """The codec of a configuration, frozen, with the weights that it names.

    Args:
        config: Its options.
        signal_shape: Shape of one signal.
        folder: What a relative path of the weights is relative to; the working directory by default.

    Raises:
        ValueError: If it names no weights, or they are missing, damaged, others than its hash says, or do not fit.
    """
    with torch.random.fork_rng(devices=[]):  # weights that are replaced at once must not move what is drawn later
        codec = config.build(signal_shape)
    if config.has_weights:
        path = weights_path(config, folder)
        tensors = read_weights(path)
        named = getattr(config, "sha256", "")
        if named and weights_hash(tensors) != named:
            raise ValueError(f"{path} has other weights than the model's config.json names; copy both again")
        try:
            codec.load_state_dict(tensors)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise ValueError(f"{path} does not fit the codec's options: {first}") from None
    return codec.frozen()


def save_codec(codec: Codec, path: Path) -> None:
    """Write the weights of a codec to a file, which its configuration names from then on.

    Raises:
        ValueError: If it has none, or the file cannot be written, naming it and the reason.
    """
    if not codec.config.has_weights:
        raise ValueError(f"{type(codec).__name__} has no weights to save")
    tensors = codec.state_dict()
    with replacing(path) as temporary:
        write_weights(tensors, temporary, metadata={"format": "pt"})
    codec.config = replace(codec.config, weights=str(path.resolve()), sha256=weights_hash(tensors))


def weights_path(config: Any, folder: Path | None) -> Path:
    """Where the weights of a codec are.

    Raises:
        ValueError: If its configuration does not say.
    """
    if not config.weights:
        raise ValueError(
            f"{type(config).__name__} names no weights; train them first (unistep.train_autoencoder), and give their "
            "file with --model.codec.weights"
        )
    path = Path(config.weights).expanduser()
    path = path if folder is None else folder / path
    return path / WEIGHTS if path.is_dir() else path
