"""Runs trainings in a process of its own: one of several under torchrun's variables, or one that will be killed.

Each job is a mapping of ``objective``, ``out``, ``changes`` to the tiny configuration, ``resume``, ``stop_at`` (a step
after which the run is asked to stop), ``gradient`` (a file for the gradient of the first step), ``full_at`` (a step
whose checkpoint finds the disk full), ``refused`` (whether a ValueError is what should happen), ``gradient_only``
(whether the run may end when its first gradient is known) and ``deep`` (whether the network is); or ``out`` and
``live``, the options of a training of live objects.
"""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import resource
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import live
import torch
from safetensors.torch import save_file
from tiny import DEEP, NETWORK, run, run_config

from unistep.training import log, loop, run_files
from unistep.training import run as run_module
from unistep.training.checkpoint import Snapshot
from unistep.training.loop import Loop
from unistep.training.optim import AdamConfig, MuonConfig
from unistep.training.parallel import whole
from unistep.training.step import Gradient, TrainStep

OPTIMIZERS = {"adam": AdamConfig(lr=1e-3), "radam": AdamConfig(kind="radam", lr=1e-3), "muon": MuonConfig()}


class GradientKnownError(Exception):
    """Ends a run that was started for its gradient."""


def record_gradients(path: str, *, only: bool = False) -> None:
    """Keep the gradient of step 0, whole, in a file; with ``only``, end the run then."""
    compute = TrainStep.gradient

    def recorded(self: TrainStep, step: int, progress: float, *, stop: bool = False) -> Gradient:
        gradient = compute(self, step, progress, stop=stop)
        if step == 0:
            module = getattr(self.module, "module", self.module)
            grads = {n: whole(p.grad).contiguous() for n, p in module.named_parameters() if p.grad is not None}
            if self.world.is_rank_zero:
                save_file(grads, path)
            if only:
                raise GradientKnownError
        return gradient

    TrainStep.gradient = recorded  # type: ignore[method-assign]


def stop_after(step: int) -> None:
    """Ask the run to stop, as Ctrl-C does, when it has taken so many steps."""
    proceed = Loop._one_step

    def stepped(self: Loop) -> Gradient:
        self.stop.signalled = self.step + 1 == step
        return proceed(self)

    Loop._one_step = stepped  # type: ignore[method-assign]


def fill_disk_at(step: int) -> None:
    """Let the checkpoint of one step fail as it does on a full disk."""
    write = run_files.save_checkpoint

    def full(snapshot: Snapshot, folder: Path, progress: dict[str, Any]) -> None:
        if progress["step"] == step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(snapshot, folder, progress)

    run_files.save_checkpoint = full


def do(job: dict[str, Any], folder: Path) -> tuple[bool, str]:
    """Run one job."""
    if "live" in job:
        return live.train(Path(job["out"]), **job["live"])
    kept = TrainStep.gradient, Loop._one_step, run_files.save_checkpoint
    if job.get("gradient"):
        record_gradients(job["gradient"], only=job.get("gradient_only", False))
    if job.get("stop_at"):
        stop_after(job["stop_at"])
    if job.get("full_at"):
        fill_disk_at(job["full_at"])
    changes = dict(job.get("changes", {}))
    config = run_config(job["objective"], folder, network=DEEP if job.get("deep") else NETWORK)
    if "optimizer" in changes:
        changes["optimizer"] = OPTIMIZERS[changes["optimizer"]]
    if "dropout" in changes:
        network = replace(config.model.network, dropout=changes.pop("dropout"))
        changes["model"] = replace(config.model, network=network)
    try:
        return run(replace(config, **changes), Path(job["out"]), resume=job.get("resume", False))
    except GradientKnownError:
        return True, ""
    finally:
        TrainStep.gradient, Loop._one_step, run_files.save_checkpoint = kept  # type: ignore[method-assign]


def limit_file_size(bytes_: int, steps: range) -> None:
    """Let the system refuse files larger than so many bytes while the steps of ``steps`` are taken."""
    proceed = Loop._one_step

    def stepped(self: Loop) -> Gradient:
        soft = bytes_ if self.step + 1 in steps else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
        return proceed(self)

    Loop._one_step = stepped  # type: ignore[method-assign]


def die_at(place: str, name: str, count: int, step: int) -> None:
    """Let the process be killed as it makes the ``count``-th call of a function after so many steps."""
    owner = pkgutil.resolve_name(place)
    call, calls = getattr(owner, name), 0
    proceed = Loop._one_step
    now = 0

    def stepped(self: Loop) -> Gradient:
        nonlocal now
        now = self.step + 1
        return proceed(self)

    def deadly(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += now == step
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)

    Loop._one_step = stepped  # type: ignore[method-assign]
    setattr(owner, name, deadly)


def attempt(job: dict[str, Any], folder: Path, text: Path) -> None:
    """One process's try at a run; exits with 0 if it reached the last step, with 3 if it was stopped."""
    torch.set_num_threads(1)
    loop.LOG_EVERY = 1
    log._event_writer = lambda folder, start: None
    if "limit" in job:
        limit_file_size(job["limit"], range(*job["limit_steps"]))
    if "die" in job:
        die_at(*job["die"])
    done, told = do(job, folder)
    text.write_text(told)
    sys.exit(0 if done else 3)


def work(jobs: list[dict[str, Any]], folder: Path, environment: dict[str, str], out: Path) -> None:
    """All jobs of one of several processes, with a line for each in ``out``, and what else it says beside it."""
    os.environ.update(environment)
    for stream, path in ((1, out), (2, out.with_suffix(".err"))):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    warnings.simplefilter("default")
    torch.set_num_threads(1)
    log._event_writer = lambda folder, start: None
    os.fsync = lambda handle: None
    run_module.stop_world = lambda world: None  # one process group serves all jobs
    for job in jobs:
        try:
            done, text = do(job, folder)
        except ValueError as error:
            if not job.get("refused"):
                raise
            done, text = False, str(error)
        print(json.dumps({"out": job["out"], "done": done, "text": text}), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
