"""Videos in one step: clips drawn at once, and a drive in a world model with an automatic driver."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unistep.generation.generator import Generator
from unistep.generation.play import ModelWorld

Driver = Callable[[np.ndarray], tuple[float, ...]]
"""``driver(frame) -> action``: what to do next, from one frame, uint8 ``[h, w, 3]``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Filmed:
    """What was made, and how long each part of it took."""

    frames: Float[Tensor, "n c f h w"]
    """Clips with values in [-1, 1]."""
    latencies: tuple[float, ...]
    """Seconds from the request for a clip, or a frame, to its pixels, one at a time."""

    def latency(self, share: float) -> float:
        """Seconds within which that share of them was there; 0.5 is the median."""
        return sorted(self.latencies)[round(share * (len(self.latencies) - 1))]


def draw_clips(generator: Generator, count: int, seed: int = 0) -> Filmed:
    """Clips one at a time, each in one network call where the model has one step.

    Args:
        generator: A model of clips.
        count: How many.
        seed: Clip ``i`` belongs to ``seed + i``.
    """
    generator.sample(1)  # the first call of a network is slower than all others
    clips, latencies = [], []
    for i in range(count):
        begun = time.perf_counter()
        clips.append(generator.sample(1, seed=seed + i))
        latencies.append(time.perf_counter() - begun)
    return Filmed(frames=torch.cat(clips), latencies=tuple(latencies))


def drive(generator: Generator, driver: Driver, frames: int, seed: int = 0) -> Filmed:
    """A driver in a world model: it sees the last frame that the model made, and what it does leads to the next one.

    Args:
        generator: A model of the next frame.
        driver: Who drives; its thinking is not counted.
        frames: How long.
        seed: Seed of the stream.

    Raises:
        ValueError: If the model takes no actions, or none such as the driver's.
    """
    world = ModelWorld(generator, seed=seed)
    frame, made, latencies = world.step(torch.zeros(world.spec.size)), [], []
    for _ in range(frames):
        pixels = generator.modality.to_stored(frame)[:, 0].permute(1, 2, 0).numpy()
        action = torch.tensor(driver(pixels))
        if action.shape != (world.spec.size,):
            raise ValueError(f"{generator.name} takes {world.spec.size} controls, and the driver has {len(action)}")
        begun = time.perf_counter()
        frame = world.step(action)
        latencies.append(time.perf_counter() - begun)
        made.append(frame)
    return Filmed(frames=torch.cat(made, dim=1)[None], latencies=tuple(latencies))
