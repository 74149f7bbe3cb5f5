"""One process or many: what ``torchrun`` says, and wrapping an objective in DDP or FSDP2."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from unistep.core.flowmap import Map

TIMEOUT = timedelta(hours=2)
"""How long processes wait for each other; the main one may be preparing data."""


@dataclass(frozen=True)
class World:
    """This process among its companions."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """Number of processes."""
    device: torch.device = torch.device("cpu")
    """Where this process computes."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process reports and writes for all."""
        return self.rank == 0

    def _sum(self, values: list[float]) -> Tensor:
        """Sums of numbers over all processes."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total

    def mean(self, values: list[float]) -> list[float]:
        """Average numbers over all processes."""
        return values if self.size == 1 else (self._sum(values) / self.size).tolist()

    def any_rank(self, flag: bool) -> bool:
        """Whether any process raised the flag."""
        return self.mean([float(flag)])[0] > 0

    def from_rank_zero(self, values: list[float]) -> list[float]:
        """The main process's numbers, on every process, to the last bit."""
        return values if self.size == 1 else self._sum(values if self.is_rank_zero else [0.0] * len(values)).tolist()

    def broadcast(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        return box[0]

    def run_on_rank_zero(self, work: Callable[[], Any]) -> Any:
        """What ``work`` gives on the main process, on every process.

        Raises:
            ValueError: On the main process, what ``work`` raised; the others leave quietly with exit code 2.
        """
        value, problem = None, None
        if self.is_rank_zero:
            try:
                value = work()
            except ValueError as error:
                problem = error
        refused, value = self.broadcast((problem is not None, value))
        if problem is not None:
            raise problem
        if refused:
            sys.exit(2)
        return value

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


def is_rank_zero() -> bool:
    """Whether this process reports for all, before they have joined."""
    return int(os.environ.get("RANK", 0)) == 0


def start_world(device: str | None = None) -> World:
    """Join the processes that ``torchrun`` started, or be the only one.

    Args:
        device: ``cpu`` or ``cuda``; a GPU where there is one without.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ValueError(f"device {kind!r} was asked for, and PyTorch sees no GPU; use --device cpu")
        chosen = torch.device(kind if ":" in kind else f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(chosen)
    else:
        try:
            chosen = torch.device(kind)
        except RuntimeError:
            raise ValueError(f"unknown device {kind!r}; use cpu, cuda or cuda:N") from None
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    return World(rank, size, chosen)


def stop_world(world: World) -> None:
    """Leave the process group."""
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def wrap(objective: nn.Module, world: World, how: Literal["ddp", "fsdp"]) -> nn.Module:
    """Make the objective's gradients the average over all processes.

    The objective is wrapped, not the network, so that every call of the network inside it is synchronised. Target
    networks and teachers have no gradient and are left whole on every process.

    DDP waits for the gradient of every trainable parameter, so each must take part in the loss of every step, as those
    of our networks do: the label table also answers for a label that was dropped. An objective that leaves one out is
    stopped by DDP's own error at its next step. Searching each step's graph for such parameters would cost all others.
    """
    if world.size == 1:
        return objective
    if how == "fsdp":
        mesh = dist.init_device_mesh(world.device.type, (world.size,))
        for module in objective.children():  # the student, and what an objective learns beside it
            # Objectives also call methods of a map; what gathers the shards is a call of its network.
            part = module.net if isinstance(module, Map) else module
            if any(p.requires_grad for p in part.parameters()):
                fully_shard(part, mesh=mesh)
        return objective
    ids = [world.device.index] if world.device.type == "cuda" else None
    # Buffers are computed alike on every process, and some are large: a queue of features. The option has a new name in
    # newer versions of PyTorch, which warn of the old one.
    options = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in options else "broadcast_buffers"
    settings: dict[str, Any] = {option: False}
    return DistributedDataParallel(objective, device_ids=ids, **settings)


def unwrapped(module: nn.Module) -> nn.Module:
    """The objective inside what :func:`wrap` returned."""
    return module.module if isinstance(module, DistributedDataParallel) else module


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Plain whole parameters in a sharded module for the block, as they are now; every process must enter it.

    A module that was called without a backward pass keeps the parameters that it gathered for that call, which the
    block drops at both ends: whoever changes the shards must not meet a stale copy later.
    """
    if not isinstance(module, FSDPModule):
        yield
        return
    module.reshard()
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def without_sync(module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """Hold back the averaging of gradients until the last part of an accumulated batch."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """The full tensor, gathered where it is sharded; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like_shard(tensor: Tensor, reference: Tensor) -> Tensor:
    """Cut ``tensor`` the way ``reference`` is sharded."""
    if isinstance(reference, DTensor):
        return distribute_tensor(tensor.to(reference.device), reference.device_mesh, reference.placements)
    return tensor.to(reference.device)
