"""Adapters (LoRA) as they are loaded: the base is found, checked, and changed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unistep.core.flowmap import Map
from unistep.generation.adapter import SHOWN, Adapter
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.nets.lora import merged
from unistep.weights import read_weights, weights_hash


def check_strength(strength: float) -> None:
    """Check how much of an adapter is wanted.

    Raises:
        ValueError: If it is not a finite number.
    """
    if not isinstance(strength, numbers.Real) or not math.isfinite(strength):
        raise ValueError(f"lora_scale must be a number, 0 for the base and 1 for the whole LoRA, got {strength}")


def base_hash(base: Generator) -> str:
    """Hash of a base's weights, by which an adapter knows it again; the precision of their file does not matter."""
    return weights_hash(base.map.net.state_dict())


def adapted_model(
    folder: Path, file: Path, config: ModelConfig, base: str | None, strength: float, load: Callable[[str], Generator]
) -> tuple[Map, ModelConfig]:
    """The map of an adapter, merged into its base, and the configuration of the whole model.

    Args:
        folder: The adapter's folder.
        file: Its tensors.
        config: Its configuration.
        base: The base by another name than the adapter has for it.
        strength: How much of the adapter there is to be.
        load: Loads a model.

    Raises:
        ValueError: If the base is not here, is itself an adapter, or is another model than the adapter was made for.
    """
    adapter = config.adapter
    assert adapter is not None
    known = _base(folder, adapter, base, load)
    found = base_hash(known)
    if found != adapter.sha256:
        raise ValueError(
            f"the LoRA in {folder} was made for {adapter.base} ({adapter.sha256[:SHOWN]}...), not for "
            f"{known.name} ({found[:SHOWN]}...); its base must have the same weights"
        )
    state = known.map.net.state_dict()
    model = config.build()
    config.network.start_from(model.net, state, known.config.network)
    start = model.net.state_dict()
    try:
        weights = merged(start, state.keys(), read_weights(file), adapter.alpha / adapter.rank, strength)
    except ValueError as error:
        raise ValueError(f"the LoRA in {folder} does not fit its base: {error}") from None
    model.net.load_state_dict(weights)
    said = adapter.described + ("" if strength == 1 else f", at a scale of {strength:g}")
    return model, replace(config, adapter=None, provenance={**config.provenance, "adapter": said})


def _base(folder: Path, adapter: Adapter, named: str | None, load: Callable[[str], Generator]) -> Generator:
    try:
        return load(adapter.base if named is None else named)
    except ValueError as error:
        if named is not None:
            raise
        raise ValueError(
            f"the LoRA in {folder} needs its base {adapter.base} ({error}); name it where it is now: "
            f"load(BASE, lora={str(folder)!r}), or BASE --lora {folder}"
        ) from None
