"""Many samples into shards: one process, a share of ``torchrun``'s, or the workers of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.cli.console import progress

if TYPE_CHECKING:
    from unistep.generation.bulk import BulkPlan
    from unistep.provenance import Signing

SHARD_SIZE = 1000
"""Samples in a shard, where nobody says."""
MANY = 10_000
"""More samples than this go into shards of a folder, not into single files."""
LOCAL = "local"
"""Ray on this machine alone, as ``--ray`` has it."""


@dataclass(frozen=True)
class ModelCall:
    """How each worker loads the model."""

    model: str
    """As it was asked for."""
    device: str
    """Where its weights go."""
    precision: Any
    """Arithmetic of the network."""
    lora: str | None = None
    """An adapter."""
    lora_scale: float = 1.0
    """How much of it."""
    root: str = "."
    """Folder that paths of models are relative to."""

    def load(self) -> Any:
        """The generator, under the name by which it was asked for."""
        from unistep.hub.load import load

        model, lora = self._found(self.model), None if self.lora is None else self._found(self.lora)
        generator = load(model, device=self.device, precision=self.precision, lora=lora, lora_scale=self.lora_scale)
        generator.name = self.lora or self.model
        return generator

    def _found(self, name: str) -> str:
        """A model's folder by its whole path, where it is one; a name as it is."""
        from unistep.hub.load import models

        folder = Path(self.root) / Path(name).expanduser()
        return str(folder) if name not in models() and folder.is_dir() else name


def has_shards(folder: Path) -> bool:
    """Whether a folder was begun with shards."""
    from unistep.generation.bulk import MANIFEST

    try:
        return (folder.expanduser() / MANIFEST).is_file()
    except OSError:  # no name that a folder could have, which is said where it is written
        return False


def share() -> tuple[int, int]:
    """Which of the processes this one is, and how many there are, as ``torchrun`` says.

    Raises:
        ValueError: If the variables are no numbers that fit.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError:
        rank, world = 0, 0
    if not 0 <= rank < world:
        raise ValueError(f"RANK and WORLD_SIZE must be numbers as torchrun sets them, got {os.environ.get('RANK')!r}")
    return rank, world


def generate(call: ModelCall, plan: BulkPlan, folder: Path, signing: Signing | None, ray: str | None) -> None:
    """Generate what is missing of a plan, and say what it took.

    Raises:
        ValueError: If the folder was begun with another plan, or the model cannot do it.
        DiskError: If there is no room; what is there stays.
    """
    import torch

    from unistep.generation.bulk import Bulk, network_rate

    generator = call.load()
    bulk = Bulk(generator, plan, folder, signing)
    bulk.begin()
    rank, world = (0, 1) if ray is not None else share()
    pending = bulk.pending(rank, world)
    left = sum(len(plan.rows(shard)) for shard in pending)
    mine = f"part {rank + 1} of {world}: " if world > 1 else ""
    there = len(range(rank, plan.shards, world)) - len(pending)
    if not pending:
        print(f"{mine}all {there:,} shards of {folder} are there")
        return
    print(f"{mine}{left:,} samples to make in {len(pending):,} shards of {folder}; {there:,} shards are there")
    began = time.perf_counter()
    if ray is None:
        bare = network_rate(generator, min(plan.batch_size, plan.shard_size), _calls(generator, plan))
        began, cores = time.perf_counter(), torch.get_num_threads()
        with progress("sampling") as update:
            for done, shard in enumerate(pending, start=1):
                bulk.write(shard)
                update(done / len(pending))
    else:
        from unistep.cli.bulk_ray import run_on_ray

        with progress("sampling") as update:
            cores, bare = run_on_ray(call, plan, folder, signing, pending, ray, update)
    rate = left / (time.perf_counter() - began)
    known = "" if bare is None else f"; the network alone {bare:.1f}/s per core: {100 * rate / cores / bare:.0f} %"
    if ray is None and bare is not None:
        known = f"; the network alone {bare / cores:.1f}/s per core: {100 * rate / bare:.0f} %"
    where = f"{generator.precision} on {generator.device}"
    print(f"{mine}{left:,} samples, {rate:.1f}/s, {rate / cores:.1f}/s per core of {cores}{known}; {where}")
    print(f"{mine}written to {folder}")


def _calls(generator: Any, plan: BulkPlan) -> int:
    return generator.network_calls(len(plan.times) or plan.steps, plan.solver, plan.guidance)


def plan_from(options: Any, condition: Mapping[str, Any], shard_size: int) -> BulkPlan:
    """The plan of a command line."""
    from unistep.generation.bulk import BulkPlan

    return BulkPlan(
        num=options.num,
        shard_size=shard_size,
        seed=options.seed,
        condition=dict(condition),
        steps=options.steps,
        times=tuple(options.times),
        solver=options.solver,
        guidance=options.guidance,
        batch_size=options.batch_size,
        marked=not options.unmarked,
    )
