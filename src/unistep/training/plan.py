"""Before the first step: what will be trained, for how long and in how much memory, from a short timing run."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from unistep.data import Dataset
from unistep.training.budget import parse_amount
from unistep.training.display import duration
from unistep.training.optim import RunOptimizer, set_rates
from unistep.training.run_config import RunConfig
from unistep.training.run_paths import teacher_of
from unistep.training.step import TrainStep

TIMING_SECONDS = 4.0
"""How long the timing run goes on, after two steps of warm-up."""


def images_per_second(train_step: TrainStep, optimizer: RunOptimizer) -> float:
    """Training speed over all processes, from steps at a rate of zero, which leave weights and optimizer as new.

    Args:
        train_step: Computes gradients.
        optimizer: One that has taken no step.
    """
    set_rates(optimizer, 0.0)

    def timed() -> float:
        begin = time.perf_counter()
        if math.isfinite(train_step.gradient(0, 0.0).norm):
            optimizer.step()
        if train_step.world.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    for _ in range(2):
        timed()
    seconds, count = 0.0, 0
    while seconds < TIMING_SECONDS and count < 50:
        seconds += timed()
        count += 1
        seconds = train_step.world.mean([seconds])[0]
    optimizer.state.clear()
    set_rates(optimizer, 1.0)
    for p in train_step.trainable:
        p.grad = None
    return train_step.config.batch_size * count / seconds


def resolve_steps(config: RunConfig, speed: float) -> RunConfig:
    """The configuration with its budget turned into optimizer steps, so that a resumed run has the same schedule."""
    if config.max_steps is not None:
        return config
    return replace(config, max_steps=parse_amount(config.budget, "budget").steps(config.batch_size, speed))


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has used so far."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB on the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


def describe(
    config: RunConfig,
    train_step: TrainStep,
    dataset: Dataset,
    speed: float,
    out: Path,
    done: int = 0,
    warnings: Sequence[str] = (),
) -> dict[str, str]:
    """The plan as rows of a table.

    Args:
        config: The run, with its number of steps.
        train_step: Computes its gradients.
        dataset: What it trains on.
        speed: Images per second.
        out: Its folder.
        done: Steps that an earlier part of the run has taken; the plan is of those that are left.
        warnings: What does not go together in this run.
    """
    assert config.max_steps is not None
    world = train_step.world
    left = config.max_steps - done
    images = left * config.batch_size
    trainable = sum(p.numel() for p in train_step.trainable)
    n, noun = len(dataset), "images" if dataset.sample_rate is None else "sounds"
    first = config.init or teacher_of(config, out)
    start = f"weights of {first}" if first else "fresh weights"
    steps = f"{left:,} of {config.max_steps:,} left, each of" if done else f"{left:,} of"
    told = f", each with {', '.join(dataset.fields)}" if dataset.fields else ""
    processes = f", {world.size} processes ({config.parallel})" if world.size > 1 else ""
    compiled = ", compiled" if config.compile else ""
    rows = {
        "recipe": config.recipe,
        "data": f"{n:,} {noun if n != 1 else noun[:-1]} of {dataset.summary.each}{told}, from {config.data.source}",
        "model": f"{trainable:,} trainable parameters, {config.model.kind}",
        "start": f"the checkpoint of step {done:,}" if done else start,
        "steps": f"{steps} {config.batch_size} {noun}: {images:,} {noun}, {images / n:.1f} passes",
        "arithmetic": f"{train_step.precision} on {world.device}{processes}{compiled}",
        "speed": f"{speed:.1f} {noun}/s in a timing run",
        "expected time": duration(images / speed),
        "memory": peak_memory(world.device),
        "folder": str(out),
    }
    return rows | {"warning" if i == 1 else f"warning {i}": text for i, text in enumerate(warnings, 1)}
