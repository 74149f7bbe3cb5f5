"""The state of a run on disk: written aside, synced, renamed, so that an interruption leaves the last good one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unistep.files import remove_folder, replacing_folder
from unistep.training.ema import EMA
from unistep.training.optim import RunOptimizer
from unistep.training.parallel import like_shard, whole
from unistep.training.selection import Selection
from unistep.weights import read_weights, write_weights

STATE = "state.json"


@dataclass(frozen=True)
class Snapshot:
    """A state as it goes to disk and comes back."""

    files: dict[str, dict[str, Tensor]]
    """Tensors by the name of their file: ``weights``, ``optimizer``, and one for each average."""
    progress: dict[str, Any]
    """What is not a tensor: step, counters, and the scalars of the optimizer under ``optimizer``."""


@dataclass
class TrainingState:
    """Everything that training changes, by reference."""

    module: nn.Module
    """The objective: student, and target network if there is one; frozen teachers are left out."""
    optimizer: RunOptimizer
    """The optimizer."""
    emas: list[EMA]
    """The averages of the weights."""
    selection: Selection | None = None
    """The best weights so far, where they are selected."""

    def _buffers(self) -> dict[str, Tensor]:
        """What training changes beside the parameters, such as running moments."""
        parameters = dict(self.module.named_parameters())
        state = self.module.state_dict()
        return {name: v for name, v in state.items() if name not in parameters and not name.startswith("teacher.")}

    def _names(self) -> list[str]:
        return [name for name, _ in self.module.named_parameters() if not name.startswith("teacher.")]

    def _optimizer_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The optimizer's state as flat tensors, and the rest of it as JSON."""
        tensors, scalars = {}, {}
        for index, p in enumerate(p for group in self.optimizer.param_groups for p in group["params"]):
            for key, value in self.optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{index}.{key}"] = whole(value)
                else:
                    scalars[f"{index}.{key}"] = value
        return tensors, scalars

    def gather(self) -> Snapshot:
        """All tensors, whole; every process must call it."""
        parameters = dict(self.module.named_parameters())
        files = {"weights": {name: whole(parameters[name].detach()) for name in self._names()}}
        files["optimizer"], scalars = self._optimizer_tensors()
        for ema in self.emas:
            files[ema.config.name] = {str(i): whole(a) for i, a in enumerate(ema.average)}
        buffers = self._buffers()
        if buffers:
            files["buffers"] = {name: whole(value.detach()).clone() for name, value in buffers.items()}
        progress: dict[str, Any] = {"optimizer": scalars}
        if self.selection is not None:
            progress["selection"] = self.selection.state()
            if self.selection.weights:
                files["selected"] = self.selection.weights
        return Snapshot(files, progress)

    @torch.no_grad()
    def restore(self, snapshot: Snapshot) -> None:
        """Put everything back, cut to this process's shard where sharded; every process must call it.

        Raises:
            ValueError: If the snapshot is of another configuration.
        """
        files = snapshot.files
        parameters = dict(self.module.named_parameters())
        targets: dict[str, dict[str, Tensor]] = {"weights": {name: parameters[name] for name in self._names()}}
        for ema in self.emas:
            targets[ema.config.name] = {str(i): average for i, average in enumerate(ema.average)}
        buffers = self._buffers()
        if buffers:
            targets["buffers"] = buffers
        for name, tensors in targets.items():
            shapes = [{key: value.shape for key, value in found.items()} for found in (tensors, files.get(name, {}))]
            if shapes[0] != shapes[1]:
                raise ValueError(f"its {name} do not belong to this configuration")
        for name, tensors in targets.items():
            for key, target in tensors.items():
                target.copy_(like_shard(files[name][key], target))
        if self.selection is not None:
            self.selection.restore(snapshot.progress.get("selection", {}), files.get("selected", {}))
        flat = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.state.clear()
        for source in (files["optimizer"], snapshot.progress["optimizer"]):
            for key, value in source.items():
                index, _, name = key.partition(".")
                p = flat[int(index)]
                if isinstance(value, Tensor):
                    # Tensors shaped like the parameter follow its layout; step counters stay where they were.
                    shaped = value.shape == p.shape and p.ndim > 0
                    value = torch.empty_like(p).copy_(like_shard(value, p)) if shaped else value.clone()
                self.optimizer.state[p][name] = value


def save_checkpoint(snapshot: Snapshot, folder: Path, progress: dict[str, Any]) -> None:
    """Write ``folder/<step>``.

    Args:
        snapshot: What :meth:`TrainingState.gather` returned.
        folder: The run's ``checkpoints`` folder.
        progress: Step, images and counters; ``step`` names the checkpoint.

    Raises:
        OSError: If the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    with replacing_folder(folder / f"{progress['step']:08d}") as temporary:
        for name, tensors in snapshot.files.items():
            write_weights(tensors, temporary / f"{name}.safetensors")
        (temporary / STATE).write_text(json.dumps({**progress, **snapshot.progress}), encoding="utf-8")


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest first."""
    return sorted(item for item in folder.glob("[0-9]*") if (item / STATE).is_file())


def read_checkpoint(folder: Path) -> Snapshot:
    """Read a checkpoint, touching nothing that is trained.

    Raises:
        ValueError: If a file is missing or corrupt.
    """
    try:
        progress = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / STATE} is not readable ({error})") from None
    if not isinstance(progress, dict) or not isinstance(progress.get("step"), int) or "optimizer" not in progress:
        raise ValueError(f"{folder / STATE} is not the state of a run")
    files = {path.name.removesuffix(".safetensors"): read_weights(path) for path in folder.glob("*.safetensors")}
    if "optimizer" not in files:
        raise ValueError(f"{folder} has no optimizer.safetensors")
    return Snapshot(files, progress)


def newest_progress(folder: Path) -> dict[str, Any] | None:
    """The counters of the newest of the checkpoints in ``folder`` that can be read, ``None`` where there is none."""
    for checkpoint in reversed(checkpoints(folder)):
        try:
            progress = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # restoring reports it
        if isinstance(progress, dict):
            return progress
    return None


def fingerprint_of_data(folder: Path) -> str | None:
    """The fingerprint of the data in the newest of the checkpoints in ``folder`` that can be read, if it has one."""
    found = (newest_progress(folder) or {}).get("data")
    return found if isinstance(found, str) else None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints."""
    for old in checkpoints(folder)[:-keep]:
        remove_folder(old)
