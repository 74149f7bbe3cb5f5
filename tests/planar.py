"""A mixture of eight modes in the plane: how a toy learns it in a second or two, and how its samples are judged."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor

from analytic import MixtureDenoiser, ring
from unistep.core.path import Path
from unistep.core.solvers import sample_ode
from unistep.core.timesteps import karras_grid
from unistep.objectives.base import Objective

M = TypeVar("M")

MEANS, WIDTH, NEAR = ring(8), 0.05, 0.2
"""Centres of the modes, their standard deviation, and how near to a centre a sample counts as of its mode."""
NOISE = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))


def planar_data(num: int, generator: torch.Generator) -> Tensor:
    """Points of eight modes on a circle."""
    modes = torch.randint(8, (num,), generator=generator)
    return MEANS[modes] + WIDTH * torch.randn(num, 2, generator=generator)


def train(objective: Objective, student: M, steps: int, rate: float = 1e-2, batch: int = 256) -> M:
    """Adam with a constant and then falling rate; the average of the weights is what is judged.

    A step costs what its calls cost, not its arithmetic: few steps of a large batch at a high rate are quickest.
    """
    generator = torch.Generator().manual_seed(0)
    apart = {id(p) for group in objective.param_groups() for p in group.module.parameters()}
    own = [p for p in objective.parameters() if p.requires_grad and id(p) not in apart]
    optimizer = torch.optim.Adam(own, lr=rate, betas=(0.9, 0.99), fused=True)
    average: Any = copy.deepcopy(student)
    slow, fast = list(average.parameters()), list(student.parameters())  # type: ignore[attr-defined]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, 2 * (steps - step) / steps)
        loss = objective(planar_data(batch, generator), {}, generator=generator, progress=step / steps)
        optimizer.zero_grad()
        loss.per_example.mean().backward()
        optimizer.step()
        objective.after_step((step + 1) / steps)
        with torch.no_grad():
            torch._foreach_lerp_(slow, fast, 0.03)
    return average


def shares(x: Tensor) -> tuple[float, float]:
    """Share of the rarest mode, an eighth if perfect, and share outside all modes."""
    distance, mode = torch.cdist(x, MEANS).min(dim=1)
    found = torch.bincount(mode[distance < NEAR], minlength=8) / len(x)
    return found.min().item(), (distance >= NEAR).float().mean().item()


def ode_modes(path: Path, largest: float) -> Tensor:
    """The mode that the exact ODE leads to from each point of the noise.

    Args:
        path: The path of the ODE.
        largest: Noise level where it begins.
    """
    ends = sample_ode(MixtureDenoiser(path, MEANS, WIDTH), NOISE, path.time_at(karras_grid(40, 0.002, largest)))
    distance, mode = torch.cdist(ends, MEANS).min(dim=1)
    assert (distance < NEAR).all()
    return mode


def agreement(x: Tensor, modes: Tensor) -> float:
    """Share of the samples whose nearest mode is the given one."""
    return (torch.cdist(x, MEANS).argmin(dim=1) == modes).float().mean().item()
