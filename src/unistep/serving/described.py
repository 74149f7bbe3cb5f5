"""What a model is and takes, for programs that know of it only by this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unistep import registry
from unistep.core.condition import asked

if TYPE_CHECKING:
    from unistep.generation.model_config import ModelConfig


def described(
    config: ModelConfig, *, max_steps: int, tasks: Sequence[str] = (), game: bool = True, loaded: bool = True
) -> dict[str, Any]:
    """A model as JSON can hold it.

    Args:
        config: Its configuration.
        max_steps: Most steps that may be asked for.
        tasks: Tasks of editing that it has.
        game: Whether the game that its data comes from can be played beside it.
        loaded: Whether it is in memory.
    """
    modality = config.modality
    return {
        "modality": modality.media,
        "noun": modality.noun,
        "described": modality.described,
        "kind": config.kind,
        "shape": list(modality.shape),
        "steps": min(config.steps, max_steps),
        "max_steps": max_steps,
        "streams": config.context is not None,
        "seconds": modality.seconds,
        "rate": modality.rate,
        "chunk_seconds": None if config.context is None else chunk_seconds(config),
        "formats": list(modality.media_types),
        "fields": {field: spec.schema for field, spec in asked(config.fields).items()},
        "prompt": next((field for field, spec in asked(config.fields).items() if spec.takes_words), None),
        "tasks": list(tasks),
        "game": game and config.provenance.get("data", "").partition(":")[0] in registry.names("game"),
        "loaded": loaded,
    }


def chunk_seconds(config: ModelConfig) -> float:
    """How long one chunk of a model's signal lasts: all of it where it does not stream."""
    return (config.modality.seconds or 0.0) / config.codec.chunks(config.modality.shape)
