"""Before the first step: what will be trained, for how long and in how much memory, from a short timing run."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path

import torch

from unistep.data import Dataset
from unistep.training.budget import parse_amount
from unistep.training.config import RunConfig
from unistep.training.display import duration
from unistep.training.step import Stepper

TIMING_SECONDS = 4.0
"""How long the timing run goes on, after two steps of warm-up."""


def images_per_second(stepper: Stepper) -> float:
    """Training speed over all processes, from gradients that are thrown away."""

    def timed() -> float:
        begin = time.perf_counter()
        stepper.gradient(0, 0.0)
        if stepper.world.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    for _ in range(2):
        timed()
    seconds, count = 0.0, 0
    while seconds < TIMING_SECONDS and count < 50:
        seconds += timed()
        count += 1
        seconds = stepper.world.mean([seconds])[0]
    for p in stepper.trainable:
        p.grad = None
    return stepper.config.batch_size * count / seconds


def settle_steps(config: RunConfig, speed: float) -> RunConfig:
    """The configuration with its budget turned into optimizer steps, so that a resumed run has the same schedule."""
    if config.max_steps is not None:
        return config
    return replace(config, max_steps=parse_amount(config.budget, "budget").steps(config.batch_size, speed))


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has used so far."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB on the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


def describe(config: RunConfig, stepper: Stepper, dataset: Dataset, speed: float, out: Path) -> dict[str, str]:
    """The plan as rows of a table."""
    assert config.max_steps is not None
    world = stepper.world
    images = config.max_steps * config.batch_size
    trainable = sum(p.numel() for p in stepper.trainable)
    n, c, h, w = dataset.images.shape
    start = config.init or config.teacher
    labels = f", {config.model.network.num_classes} classes" if config.model.network.num_classes else ""
    processes = f", {world.size} processes ({config.parallel})" if world.size > 1 else ""
    return {
        "recipe": config.recipe,
        "data": f"{n:,} images of {w}x{h}, {c} channel{'s' if c > 1 else ''}{labels}, from {config.data.source}",
        "model": f"{trainable:,} trainable parameters, {config.model.kind}",
        "start": f"weights of {start}" if start else "fresh weights",
        "steps": f"{config.max_steps:,} of {config.batch_size} images: {images:,} images, {images / n:.1f} passes",
        "arithmetic": f"{stepper.precision} on {world.device}{processes}",
        "speed": f"{speed:.1f} images/s in a timing run",
        "expected time": duration(images / speed),
        "memory": peak_memory(world.device),
        "folder": str(out),
    }
