"""Recordings of play that a world is compared with: frames, and the action under which each came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.action_fields import ActionField, find_actions
from unistep.core.values import Action
from unistep.data import DataConfig, Dataset

if TYPE_CHECKING:
    from unistep.generation.generator import Generator
    from unistep.modalities.base import Modality

SEEN = 3
"""Frames by which an action is recognised: the one that it led to, and the two before."""
_MOST_FRAMES = 5_000  # single frames that stand for all of a data set
_READ = 64  # windows that are read at a time


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RealPlay:
    """Recordings of one length."""

    modality: Modality
    """What they are: clips ``[c, frames, h, w]``."""
    stored: Tensor
    """The clips as they are stored, ``[n, c, frames, h, w]``."""
    actions: Float[Tensor, "n frames size"]
    """The action under which each frame came about from the one before it."""
    before: int
    """Frames that a world goes on from; what comes after them is what it has to make."""

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self.stored)

    @property
    def length(self) -> int:
        """Frames that a world has to make."""
        return self.stored.shape[2] - self.before

    def clip(self, start: int, stop: int) -> Float[Tensor, "n c frames h w"]:
        """Some frames of all recordings as signals in [-1, 1]; a negative ``start`` repeats the first frame."""
        rows = torch.arange(start, stop).clamp_min(0)
        return self.modality.to_signal(self.stored[:, :, rows])

    def seen(self, number: int) -> Float[Tensor, "n c seen h w"]:
        """A frame with those before it, as the action that led to it is recognised by."""
        return self.clip(number - SEEN + 1, number + 1)


def check_world(model: Generator) -> tuple[str, ActionField]:
    """The field of a world's actions, and its name.

    Raises:
        ValueError: If the model does not stream, does not make one frame at a time, or takes no actions.
    """
    config = model.config
    if config.context is None:
        raise ValueError(f"{model.name} makes {model.modality.noun}s by themselves, no stream of frames to act in")
    found = find_actions(config.fields, model.name)
    shape = config.modality.shape
    if config.codec.chunk_shape(shape) != (shape[0], 1, *shape[2:]):
        raise ValueError(f"{model.name} makes chunks of {config.chunk.described}; a world makes one frame at a time")
    return found


def long_clips(config: DataConfig, model: Generator, length: int) -> DataConfig:
    """The same data in clips that are long enough to go on for ``length`` frames, none of which overlap.

    Args:
        config: The data.
        model: The world.
        length: Frames to make.
    """
    lasting = model.modality.part(model.config.codec.lasting_shape(model.modality.shape, length))
    return replace(config, options=lasting.as_options().apart())


def read_play(data: Dataset, model: Generator, count: int) -> RealPlay:
    """Recordings of a data set, spread evenly over it.

    Args:
        data: Clips with actions.
        model: The world, which goes on from their first frames.
        count: How many at most.

    Raises:
        ValueError: If the data has no such actions, or its clips are too short.
    """
    name, _ = check_actions(data, model)
    before = model.config.codec.past
    if data.shape[1] <= before:
        raise ValueError(f"{data.source} has clips of {data.shape[1]} frames, and {model.name} goes on from {before}")
    chosen = _spread(len(data), count)
    stored = torch.cat([data.batch([i])[0] for i in chosen])
    return RealPlay(modality=data.modality, stored=stored, actions=actions_of(data, name, chosen), before=before)


def check_actions(data: Dataset, model: Generator) -> tuple[str, ActionField]:
    """The field of the data's actions, which must be those of the world, and its name.

    Raises:
        ValueError: If they are not.
    """
    name, field = check_world(model)
    known = data.fields.get(name)
    if known is None or not field.agrees(known):
        raise ValueError(
            f"{model.name} takes {name} of {', '.join(field.names)}, and {data.source} has no such {name}s"
        )
    return name, field


def actions_of(data: Dataset, name: str, indices: Sequence[int]) -> Float[Tensor, "n frames size"]:
    """The actions of each frame of some clips."""
    return cast(Action, data.conditions(indices)[name]).vector


def frames_of(data: Dataset, frame: Modality) -> Dataset:
    """Single frames spread evenly over a data set: the last ones of windows.

    Args:
        data: The data set.
        frame: What a frame is.
    """
    chosen = _spread(len(data), _MOST_FRAMES)
    parts = [data.batch(chosen[i : i + _READ])[0][:, :, -1:] for i in range(0, len(chosen), _READ)]
    return Dataset.from_tensors(torch.cat(parts), modality=frame, source=data.source)


def _spread(total: int, count: int) -> list[int]:
    return np.unique(np.arange(min(count, total)) * total // min(count, total)).tolist()
