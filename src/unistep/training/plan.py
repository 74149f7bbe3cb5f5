"""Before the first step: what will be trained, for how long and in how much memory."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unistep.training.display import duration
from unistep.training.run_paths import teacher_of
from unistep.training.step import TrainStep

if TYPE_CHECKING:
    from unistep.training.resolved import ResolvedRun


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has used so far."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB on the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


def describe(
    resolved: ResolvedRun,
    train_step: TrainStep,
    out: Path,
    done: int = 0,
) -> dict[str, str]:
    """The plan as rows of a table.

    Args:
        resolved: The run, with every choice made.
        train_step: Computes its gradients.
        out: Its folder.
        done: Steps that an earlier session of the run has taken; the plan is of those that are left.
    """
    config, dataset, world = resolved.config, resolved.data, train_step.world
    batch, noun = train_step.options.batch_size, resolved.noun
    left = resolved.steps - done
    items = left * batch
    trainable = sum(p.numel() for p in train_step.trainable)
    n = len(dataset)
    first = config.init or teacher_of(config, out)
    start = f"weights of {first}" if first else "fresh weights"
    steps = f"{left:,} of {resolved.steps:,} left, each of" if done else f"{left:,} of"
    about = "about " if resolved.seconds is not None else ""
    given = f", each with {', '.join(dataset.fields)}" if dataset.fields else ""
    processes = f", {world.size} processes ({config.parallel})" if world.size > 1 else ""
    compiled = ", compiled" if config.compile else ""
    measured = "so far" if resolved.resumed else "in a timing run"
    old = config.rehearsal or 0.0
    passes = f"{items * (1 - old) / n:.1f} passes" + (f" beside {old:.0%} of old {noun}s" if old else "")
    rows = {
        "recipe": config.recipe,
        "data": f"{n:,} {noun}{'s' if n != 1 else ''} of {dataset.summary.each}{given}, from {config.data.source}",
        "model": f"{trainable:,} trainable parameters, {config.model.kind}",
        "start": f"the checkpoint of step {done:,}" if done else start,
        "steps": f"{about}{steps} {batch} {noun}s: {items:,} {noun}s, {passes}",
        "arithmetic": f"{train_step.precision} on {world.device}{processes}{compiled}",
        "speed": f"{resolved.speed:.1f} {noun}s/s {measured}",
        "expected time": duration(items / resolved.speed),
        "memory": peak_memory(world.device),
        "folder": str(out),
    }
    if resolved.seconds is not None:
        rows["deadline"] = f"{config.budget}; the number of steps adapts to the clock"
    rows |= {f"chosen: {name}": why for name, why in resolved.reasons.items()}
    numbered = {"warning" if i == 1 else f"warning {i}": text for i, text in enumerate(resolved.warnings, 1)}
    return rows | numbered
