"""Compiling a network, once it is known that the compiled one learns the same."""

from __future__ import annotations

import torch
from torch import nn

from unistep.flowmap import Map
from unistep.training.parallel import whole
from unistep.training.step import Stepper

CLOSE = 0.9
"""Least cosine of the two gradients, where rounding does not make them differ by itself."""


def compile_networks(objective: nn.Module, stepper: Stepper) -> None:
    """Compile the networks of an objective with ``torch.compile`` and compare a gradient with the plain one.

    A compiler that is wrong about a derivative gives no error: PyTorch 2.13 turned that of an interpolation into zero,
    and two thirds of a network kept the weights that it began with. Where two nearly equal answers are subtracted, as
    late in a curriculum, the rounding of bfloat16 makes up much of any gradient: it is measured against float32, and
    two gradients that both carry it may differ by as much.

    Args:
        objective: The student, and the teacher and whatever else has a network.
        stepper: Takes the gradients, both of step 0, so that the training is what it would be without.

    Raises:
        ValueError: If the gradients differ.
    """
    dropout = any(isinstance(part, nn.Dropout) and part.p > 0 for part in objective.modules())
    stepper.module.train(not dropout)  # the compiler draws other masks
    plain = _gradient(stepper)
    rounding = _rounding(stepper, plain)
    for net in {part.net for part in objective.modules() if isinstance(part, Map)}:
        net.compile()
    compiled = _gradient(stepper)
    stepper.module.train()
    cosine, lost = _compare(plain, compiled)
    if lost or not cosine > CLOSE * rounding**2:
        raise ValueError(
            f"torch.compile gives another gradient here (cosine {cosine:.2f}, {lost} of {len(plain)} parameters get "
            "none); train without --compile"
        )


def _rounding(stepper: Stepper, plain: list[torch.Tensor]) -> float:
    """Cosine of a gradient with that of float32; one where there is no memory for such a gradient."""
    own = stepper.precision
    if own == "fp32":
        return 1.0
    stepper.precision = "fp32"
    try:
        return max(_compare(_gradient(stepper), plain)[0], 0.0)
    except torch.OutOfMemoryError:
        return 1.0
    finally:
        stepper.precision = own


def _gradient(stepper: Stepper) -> list[torch.Tensor]:
    stepper.gradient(0, 0.0)
    return [
        torch.zeros(()) if p.grad is None else whole(p.grad).detach().clone(memory_format=torch.contiguous_format)
        for p in stepper.trainable
    ]


def _compare(plain: list[torch.Tensor], compiled: list[torch.Tensor]) -> tuple[float, int]:
    """Cosine of two gradients, and the number of parameters that only the first reaches."""
    product = sum(float((a * b).sum()) for a, b in zip(plain, compiled, strict=True))
    norms = [sum(float(g.square().sum()) for g in gradient) ** 0.5 for gradient in (plain, compiled)]
    lost = sum(bool(a.any()) and not bool(b.any()) for a, b in zip(plain, compiled, strict=True))
    return product / max(norms[0] * norms[1], 1e-30), lost
