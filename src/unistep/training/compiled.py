"""Compiling a network, once it is known that the compiled one learns the same."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unistep.core.flowmap import Map
from unistep.training.checkpoint import checkpoints
from unistep.training.optim import RunOptimizer
from unistep.training.parallel import whole
from unistep.training.run_config import RunConfig
from unistep.training.step import TrainStep
from unistep.training.timing import time_steps

CLOSE = 0.9
"""Least cosine of the two gradients, where rounding does not make them differ by itself."""


LONG = 600.0
"""Seconds of training from which compiling, which takes a minute, is worth its time."""
FASTER = 1.05
"""How much faster training must become to stay compiled."""
FORMS = 64
"""Forms of one forward pass that are compiled; the rest runs as it is written. Student, teacher and features share its
code, with sizes of their own, with gradients and without: PyTorch's eight were used up before the first step of FD
loss."""
_DERIVATIVES = ("derivative", "tangent")
"""How the configurations of objectives call the way in which they differentiate the network."""


def worth_compiling(config: RunConfig, seconds: float, train_step: TrainStep, out: Path) -> bool:
    """Whether to compile a run unasked: one that is long, new, and can be compiled.

    A run that goes on keeps what it began with: a compiled network rounds otherwise.

    Args:
        config: The run.
        seconds: How long it will take.
        train_step: Takes its gradients.
        out: Its folder.
    """
    if config.compile or not config.auto_compile or seconds < LONG or checkpoints(out / "checkpoints"):
        return False
    derivatives = [getattr(config.objective, name, None) for name in _DERIVATIVES]
    # Forward differentiation does not go through a compiled network; on a CPU there must be something to compile with.
    able = train_step.world.device.type != "cpu" or any(map(shutil.which, ("c++", "g++", "clang++")))
    return able and train_step.world.size == 1 and "exact" not in derivatives


def keep_if_faster(objective: nn.Module, train_step: TrainStep, optimizer: RunOptimizer, speed: float) -> float:
    """Compile, and take it back unless training is faster for it.

    Args:
        objective: As in :func:`compile_networks`.
        train_step: Likewise.
        optimizer: One that has taken no step.
        speed: Images per second without.

    Returns:
        Images per second with; NaN where it was taken back.

    Raises:
        ValueError: If the compiler fails or gives another gradient; the networks are as before.
    """
    problem, found = "", math.nan
    try:
        compile_networks(objective, train_step)
        found = time_steps(train_step, optimizer).items_per_second
    except Exception as error:
        problem = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
    if not found > FASTER * speed:
        found = math.nan
        for net in _networks(objective):
            net._compiled_call_impl = None  # torch.nn.Module.compile has no way back
    if problem:
        raise ValueError(problem)
    return found


def _networks(objective: nn.Module) -> set[Any]:
    return {part.net for part in objective.modules() if isinstance(part, Map)}


def compile_networks(objective: nn.Module, train_step: TrainStep) -> None:
    """Compile the networks of an objective with ``torch.compile`` and compare a gradient with the plain one.

    A compiler that is wrong about a derivative gives no error: PyTorch 2.13 turned that of an interpolation into zero,
    and two thirds of a network kept the weights that it began with. Where two nearly equal results are subtracted, as
    late in a curriculum, the rounding of bfloat16 makes up much of any gradient: it is measured against float32, and
    two gradients that both carry it may differ by as much.

    Args:
        objective: The student, and the teacher and whatever else has a network.
        train_step: Takes the gradients, both of step 0, so that the training is what it would be without.

    Raises:
        ValueError: If the gradients differ.
    """
    dropout = any(isinstance(part, nn.Dropout) and part.p > 0 for part in objective.modules())
    train_step.module.train(not dropout)  # the compiler draws other masks
    plain = _gradient(train_step)
    rounding = _rounding(train_step, plain)
    allow_forms()
    for net in _networks(objective):
        net.compile()
    compiled = _gradient(train_step)
    train_step.module.train()
    cosine, lost = _compare(plain, compiled)
    if lost or not cosine > CLOSE * rounding**2:
        raise ValueError(
            f"torch.compile gives another gradient here (cosine {cosine:.2f}, {lost} of {len(plain)} parameters get "
            "none); train without --compile"
        )


def allow_forms() -> None:
    """Let the compiler keep :data:`FORMS` of each function."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, FORMS)


def _rounding(train_step: TrainStep, plain: list[torch.Tensor]) -> float:
    """Cosine of a gradient with that of float32; one where there is no memory for such a gradient."""
    own = train_step.precision
    if own == "fp32":
        return 1.0
    train_step.precision = "fp32"
    try:
        return max(_compare(_gradient(train_step), plain)[0], 0.0)
    except torch.OutOfMemoryError:
        return 1.0
    finally:
        train_step.precision = own


def _gradient(train_step: TrainStep) -> list[torch.Tensor]:
    train_step.gradient(0, 0.0)
    return [
        torch.zeros(()) if p.grad is None else whole(p.grad).detach().clone(memory_format=torch.contiguous_format)
        for p in train_step.trainable
    ]


def _compare(plain: list[torch.Tensor], compiled: list[torch.Tensor]) -> tuple[float, int]:
    """Cosine of two gradients, and the number of parameters that only the first reaches."""
    product = sum(float((a * b).sum()) for a, b in zip(plain, compiled, strict=True))
    norms = [sum(float(g.square().sum()) for g in gradient) ** 0.5 for gradient in (plain, compiled)]
    lost = sum(bool(a.any()) and not bool(b.any()) for a, b in zip(plain, compiled, strict=True))
    return product / max(norms[0] * norms[1], 1e-30), lost
