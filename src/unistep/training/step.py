"""One optimizer step: draws that depend on nothing but the seed and the step, gradients, clipping, averages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unistep.codecs.base import Codec
from unistep.core.condition import Condition, encoded, select, to_device
from unistep.core.seeding import ShardGenerator, derived_seed
from unistep.data import Loader
from unistep.modalities.base import Modality
from unistep.objectives.base import Loss
from unistep.precision import Precision, autocast, resolve_precision
from unistep.training.optim import clip_gradients, clip_groups
from unistep.training.parallel import World, without_sync
from unistep.training.run_config import RunConfig

LEVELS = (0.1, 0.5, 2.0, 10.0)
"""Noise to signal ratios between which the loss is shown separately."""
LEVEL_NAMES = ("below-0.1", "0.1-0.5", "0.5-2", "2-10", "above-10")


@dataclass(frozen=True)
class Gradient:
    """What one batch's forward and backward pass gave, averaged over all processes."""

    loss: float
    """Mean loss."""
    norm: float
    """Norm of the gradient before clipping."""
    logs: dict[str, float]
    """What the objective reports."""
    stop: bool
    """Whether a process was asked to stop."""


def by_level(loss: Loss) -> Tensor:
    """Sum of the losses and number of examples in each range of noise, shape ``[2, ranges]``."""
    sums = loss.per_example.new_zeros(2, len(LEVEL_NAMES))
    if loss.level is not None:
        where = torch.bucketize(loss.level.detach(), sums.new_tensor(LEVELS).to(loss.level))
        sums[0].index_add_(0, where, loss.per_example.detach())
        sums[1].index_add_(0, where, torch.ones_like(loss.per_example))
    return sums


class TrainStep:
    """Computes the gradient of a step.

    All randomness of a step follows from ``(seed, step)``: every share of the batch, on whichever process and in
    whichever part, uses its slice of one common draw. So a run resumes exactly, and two processes have the gradient
    of one. Dropout alone, which draws inside the network, is seeded by share.

    Args:
        module: The objective, wrapped for the processes.
        loader: Data; gives each process its share of the batch.
        modality: Turns what the cache holds into signals.
        codec: Turns signals into what the network sees.
        config: The run.
        world: The processes.
    """

    def __init__(
        self, module: nn.Module, loader: Loader, modality: Modality, codec: Codec, config: RunConfig, world: World
    ) -> None:
        share, rest = divmod(config.batch_size, world.size * config.accumulation)
        if rest:
            raise ValueError(
                f"batch_size {config.batch_size} must be a multiple of {world.size} processes times "
                f"{config.accumulation} accumulation"
            )
        self.module, self.loader, self.modality, self.config, self.world = module, loader, modality, config, world
        self.codec = codec.to(world.device)
        self.share = share
        self.precision: Precision = resolve_precision(config.precision, world.device)
        self.trainable = [p for p in module.parameters() if p.requires_grad]
        self.groups = clip_groups(module, config.clip)

    def _generator(self, step: int, part: int) -> ShardGenerator:
        first = (self.world.rank * self.config.accumulation + part) * self.share
        shared = torch.Generator(self.world.device).manual_seed(derived_seed(self.config.seed, "noise", step))
        torch.manual_seed(derived_seed(self.config.seed, "dropout", step, first))
        return ShardGenerator(shared, first, first + self.share, self.config.batch_size)

    def _examples(
        self, values: Tensor, told: Condition, rows: slice, generator: ShardGenerator
    ) -> tuple[Tensor, Condition]:
        """Signals and what is told of them, on the device; of two chunks the second, told the first."""
        device = self.world.device
        stored = values[rows].to(device, non_blocking=True)
        condition = to_device(select(told, rows), device, non_blocking=True)
        condition = encoded(condition, self.codec.encode_reference)
        model = self.config.model
        if model.context is None:
            return self.codec.encode(self.modality.to_signal(stored)), condition
        past, x0 = self.codec.split(self.modality.to_signal(stored))
        return x0, model.context.in_training(condition, past, model.sigma_data, generator)

    def gradient(self, step: int, progress: float, *, stop: bool = False) -> Gradient:
        """Leave the clipped gradient of the mean loss in the parameters.

        Args:
            step: Number of the step, from 0.
            progress: Share of the training that is done.
            stop: Whether this process was asked to stop; passed on to the others.
        """
        values, told = self.loader.batch(step)
        device = self.world.device
        total, ranges = torch.zeros((), device=device), torch.zeros(2, len(LEVEL_NAMES), device=device)
        logs: dict[str, Tensor] = {}
        for p in self.trainable:
            p.grad = None
        for part in range(self.config.accumulation):
            rows = slice(part * self.share, (part + 1) * self.share)
            generator = self._generator(step, part)
            x0, condition = self._examples(values, told, rows, generator)
            last = part + 1 == self.config.accumulation
            with without_sync(self.module, last=last):
                with autocast(self.precision, self.world.device):
                    loss = self.module(x0, condition, generator=generator, progress=progress)
                mean = loss.per_example.mean() / self.config.accumulation
                mean.backward()
            total += mean.detach()
            ranges += by_level(loss)
            for name, value in loss.logs.items():
                logs[name] = logs.get(name, torch.zeros_like(total)) + value.to(total) / self.config.accumulation
        norms = {name: clip_gradients(*group).to(total) for name, group in self.groups.items()}
        norm = next(iter(norms.values())) if len(norms) == 1 else torch.stack([*norms.values()]).norm()
        if len(norms) > 1:
            logs |= {f"gradient_norm/{name}": value for name, value in norms.items()}
        # All in one transfer: each of them would make the processor wait until the GPU has done what it was told.
        numbers = torch.cat([torch.stack([norm, total, *logs.values()]), ranges.flatten()]).tolist()
        averaged = self.world.mean([numbers[1], float(stop), *numbers[2:]])
        shown = dict(zip(logs, averaged[2:], strict=False))
        sums, counts = averaged[2 + len(logs) :][: len(LEVEL_NAMES)], averaged[-len(LEVEL_NAMES) :]
        for name, value, count in zip(LEVEL_NAMES, sums, counts, strict=True):
            if count > 0:
                shown[f"loss_by_noise/{name}"] = value / count
        return Gradient(averaged[0], numbers[0], shown, averaged[1] > 0)
