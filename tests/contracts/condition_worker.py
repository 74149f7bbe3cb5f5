"""One of two processes that train with each type of condition under DistributedDataParallel."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from contracts.condition_values import MAKE, Reader
from unistep.core.condition import Value
from unistep.core.flowmap import Denoiser
from unistep.core.path import VarianceExploding
from unistep.core.seeding import ShardGenerator
from unistep.objectives.denoising import Denoising, DenoisingConfig

NUM = 8


def objective(kind: str) -> Denoising:
    """The same objective in every process."""
    torch.manual_seed(0)
    return Denoising(Denoiser(Reader(kind), VarianceExploding()), DenoisingConfig(label_dropout=0.3))


def batch(kind: str) -> tuple[Tensor, Value]:
    """The same batch in every process."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(NUM, 2, generator=generator), MAKE[kind](NUM, generator)


def gradient(module: torch.nn.Module, kind: str, rows: slice) -> Tensor:
    """Gradient of the mean loss of some of the batch's items, with their share of the draws."""
    x0, value = batch(kind)
    shard = ShardGenerator(torch.Generator().manual_seed(2), rows.start, rows.stop, NUM)
    module(x0[rows], {"c": value.select(rows)}, generator=shard, progress=0.5).per_example.mean().backward()
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def work(rank: int, folder: str) -> None:
    """Write the averaged gradient of each type."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half = slice(rank * NUM // 2, (rank + 1) * NUM // 2)
    found = {kind: gradient(DistributedDataParallel(objective(kind)), kind, half) for kind in MAKE}
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
