"""One optimizer step: draws that depend on nothing but the seed and the step, gradients, clipping, averages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unistep.core.condition import select
from unistep.core.seeding import ShardGenerator, derived_seed
from unistep.data import Loader
from unistep.objectives.base import Loss, Objective
from unistep.precision import Precision, autocast, resolve_precision
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import clip_gradients, clip_groups
from unistep.training.parallel import World, unwrapped, without_sync

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

    All randomness of a step follows from ``(seed, step)``, or from an earlier step whose draw the objective takes
    again: every share of the batch, on any process and in any part, uses its slice of one common draw. So a run resumes
    exactly, and two processes have the gradient of one. Dropout alone, which draws inside the network, is seeded by
    step and share.

    Args:
        module: The objective, wrapped for the processes.
        loader: Data; gives each process its share of the batch.
        examples: Turns what the data set stores into what the network is trained on.
        options: Options of the loop.
        world: The processes.
    """

    def __init__(
        self, module: nn.Module, loader: Loader, examples: Examples, options: LoopOptions, world: World
    ) -> None:
        share, rest = divmod(options.batch_size, world.size * options.accumulation)
        if rest:
            raise ValueError(
                f"batch_size {options.batch_size} must be a multiple of {world.size} processes times "
                f"{options.accumulation} accumulation"
            )
        self.module, self.loader, self.examples, self.options, self.world = module, loader, examples, options, world
        self.share, self.objective = share, unwrapped(module)
        self.precision: Precision = resolve_precision(options.precision, world.device)
        self.trainable = [p for p in module.parameters() if p.requires_grad]
        self.groups = clip_groups(module, options.clip)

    def _generator(self, step: int, draw: int, part: int) -> ShardGenerator:
        first = (self.world.rank * self.options.accumulation + part) * self.share
        shared = torch.Generator(self.world.device).manual_seed(derived_seed(self.options.seed, "noise", draw))
        torch.manual_seed(derived_seed(self.options.seed, "dropout", step, first))
        again = draw < step and not self.examples.rolls_out
        return ShardGenerator(shared, first, first + self.share, self.options.batch_size, draw, again)

    def gradient(self, step: int, progress: float, *, stop: bool = False) -> Gradient:
        """Leave the clipped gradient of the mean loss in the parameters.

        Args:
            step: Number of the step, from 0.
            progress: Share of the training that is done.
            stop: Whether this process was asked to stop; passed on to the others.
        """
        draw = self.objective.draw(step) if isinstance(self.objective, Objective) else step
        stored, condition = self.loader.fetch(draw)
        device = self.world.device
        total, ranges = torch.zeros((), device=device), torch.zeros(2, len(LEVEL_NAMES), device=device)
        logs: dict[str, Tensor] = {}
        for p in self.trainable:
            p.grad = None
        for part in range(self.options.accumulation):
            rows = slice(part * self.share, (part + 1) * self.share)
            generator = self._generator(step, draw, part)
            with autocast(self.precision, device):  # of what the student itself rolls out
                student = self.objective.student if isinstance(self.objective, Objective) else None
                x0, known = self.examples(stored[rows], select(condition, rows), device, generator, student)
            last = part + 1 == self.options.accumulation
            with without_sync(self.module, last=last):
                with autocast(self.precision, self.world.device):
                    loss = self.module(x0, known, generator=generator, progress=progress)
                mean = loss.per_example.mean() / self.options.accumulation
                mean.backward()
            total += mean.detach()
            ranges += by_level(loss)
            for name, value in loss.logs.items():
                logs[name] = logs.get(name, torch.zeros_like(total)) + value.to(total) / self.options.accumulation
        norms = {name: clip_gradients(*group).to(total) for name, group in self.groups.items()}
        norm = next(iter(norms.values())) if len(norms) == 1 else torch.stack([*norms.values()]).norm()
        if len(norms) > 1:
            logs |= {f"gradient_norm/{name}": value for name, value in norms.items()}
        # All in one transfer: each of them would make the processor wait until the GPU has done its work.
        numbers = torch.cat([torch.stack([norm, total, *logs.values()]), ranges.flatten()]).tolist()
        averaged = self.world.mean([numbers[1], float(stop), *numbers[2:]])
        shown = dict(zip(logs, averaged[2:], strict=False))
        sums, counts = averaged[2 + len(logs) :][: len(LEVEL_NAMES)], averaged[-len(LEVEL_NAMES) :]
        for name, value, count in zip(LEVEL_NAMES, sums, counts, strict=True):
            if count > 0:
                shown[f"loss_by_noise/{name}"] = value / count
        return Gradient(averaged[0], numbers[0], shown, averaged[1] > 0)
