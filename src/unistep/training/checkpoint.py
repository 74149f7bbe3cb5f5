"""The state of a run on disk: written aside, synced, renamed, so that an interruption leaves the last good one."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unistep.files import replacing_folder
from unistep.hub.load import read_weights
from unistep.training.ema import EMA
from unistep.training.parallel import World, like_shard, whole

STATE = "state.json"


@dataclass
class TrainingState:
    """Everything that training changes, by reference."""

    module: nn.Module
    """The objective: student, and target network if there is one; frozen teachers are left out."""
    optimizer: torch.optim.Optimizer
    """The optimizer."""
    emas: list[EMA]
    """The averages of the weights."""

    def _names(self) -> list[str]:
        return [name for name, _ in self.module.named_parameters() if not name.startswith("teacher.")]

    def _optimizer_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimizer's state as flat tensors, and what is no tensor as JSON."""
        tensors, scalars = {}, {}
        for index, p in enumerate(p for group in self.optimizer.param_groups for p in group["params"]):
            for key, value in self.optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{index}.{key}"] = whole(value)
                else:
                    scalars[f"{index}.{key}"] = value
        return tensors, scalars

    def gather(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """All tensors by file name, whole; every process must call it."""
        parameters = dict(self.module.named_parameters())
        files = {"weights": {name: whole(parameters[name].detach()) for name in self._names()}}
        files["optimizer"], scalars = self._optimizer_tensors()
        for ema in self.emas:
            files[ema.config.name] = {str(i): whole(a) for i, a in enumerate(ema.average)}
        return files, scalars

    @torch.no_grad()
    def restore(self, files: dict[str, dict[str, Tensor]], scalars: dict[str, Any]) -> None:
        """Put everything back, cut to this process's shard where sharded."""
        parameters = dict(self.module.named_parameters())
        for name, value in files["weights"].items():
            parameters[name].copy_(like_shard(value, parameters[name]))
        flat = [p for group in self.optimizer.param_groups for p in group["params"]]
        for source in (files["optimizer"], scalars):
            for key, value in source.items():
                index, _, name = key.partition(".")
                p = flat[int(index)]
                if isinstance(value, Tensor):
                    # Tensors shaped like the parameter follow its layout; step counters stay where they were.
                    value = like_shard(value, p).clone() if value.shape == p.shape and value.ndim else value.clone()
                self.optimizer.state[p][name] = value
        for ema in self.emas:
            for i, average in enumerate(ema.average):
                average.copy_(like_shard(files[ema.config.name][str(i)], average))


def save_checkpoint(state: TrainingState, folder: Path, progress: dict[str, Any], world: World) -> None:
    """Write ``folder/<step>``; every process must call it, the main one writes.

    Args:
        state: What to save.
        folder: The run's ``checkpoints`` folder.
        progress: Step, images and counters; ``step`` names the checkpoint.
        world: The processes.

    Raises:
        OSError: If the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    files, scalars = state.gather()
    if world.is_main:
        with replacing_folder(folder / f"{progress['step']:08d}") as temporary:
            for name, tensors in files.items():
                save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary / f"{name}.safetensors")
            (temporary / STATE).write_text(json.dumps({**progress, "optimizer": scalars}), encoding="utf-8")


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest first."""
    return sorted(item for item in folder.glob("[0-9]*") if (item / STATE).is_file())


def load_checkpoint(state: TrainingState, folder: Path) -> dict[str, Any]:
    """Restore a checkpoint and return the progress that was saved with it.

    Raises:
        ValueError: If a file is missing or corrupt, or belongs to another configuration.
    """
    try:
        progress = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{folder / STATE} is not readable ({error}); delete {folder} to go on from an older one"
        ) from None
    files = {path.name.removesuffix(".safetensors"): read_weights(path) for path in folder.glob("*.safetensors")}
    try:
        state.restore(files, progress.pop("optimizer"))
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"{folder} does not belong to this configuration ({error})") from None
    return progress


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints."""
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
