"""Training an adapter (LoRA) in place of all weights: its options, its base, and what is written of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from unistep.generation.adapter import Adapter
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.hub.adapters import base_hash
from unistep.hub.load import find, models
from unistep.hub.save import CONFIG
from unistep.nets.lora import add_lora
from unistep.serialization import read_json

if TYPE_CHECKING:
    from unistep.training.run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank differences that are trained in place of the weights of the model that a run goes on with.

    References:
        Hu et al. 2021, arXiv 2106.09685.
    """

    rank: int = 0
    """Rank of the difference of each weight matrix; 0 to train the weights themselves. 4 to 16 are usual."""
    alpha: float | None = None
    """Scale of the differences, which are multiplied by alpha / rank; the rank without."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"lora.rank must be 0 (none) or more, got {self.rank}")
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise ValueError(f"lora.alpha must be a positive number, got {self.alpha}")

    @property
    def scale(self) -> float:
        """``alpha``, or what it is where none is given."""
        return float(self.rank) if self.alpha is None else self.alpha


def check_lora(config: RunConfig) -> None:
    """Check that a run that is to train an adapter can.

    Raises:
        ValueError: If it has no base, a base that is itself an adapter, or shards its weights.
    """
    if config.lora.rank == 0:
        return
    if config.init is None or config.init == "none":
        raise ValueError(
            f"a LoRA (lora.rank {config.lora.rank}) is of a trained model; name it, such as --init fashion"
        )
    if config.parallel == "fsdp":
        raise ValueError("a LoRA is small: train it with --parallel ddp")
    if read_json(ModelConfig, find(config.init) / CONFIG).adapter is not None:
        raise ValueError(
            f"{config.init} is a LoRA itself; merge it first (unistep convert {config.init} -o FOLDER), or train all "
            "weights without --lora.rank"
        )


def with_adapter(config: RunConfig, start: Generator | None) -> RunConfig:
    """The run whose model is an adapter of the model that it starts from, where it is to be one."""
    if config.lora.rank == 0 or start is None or config.init is None:
        return config
    local = config.init not in models() and Path(config.init).expanduser().is_dir()
    base = str(find(config.init).absolute()) if local else config.init
    adapter = Adapter(base=base, sha256=base_hash(start), rank=config.lora.rank, alpha=config.lora.scale)
    return replace(config, model=replace(config.model, adapter=adapter))


def adapt(net: nn.Module, adapter: Adapter | None, start: Generator) -> None:
    """Let a network that holds the weights of its base be trained as an adapter, where it is to be one."""
    if adapter is not None:
        with torch.no_grad():
            add_lora(net, adapter.rank, adapter.alpha, start.map.net.state_dict())
