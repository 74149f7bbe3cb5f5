"""From one signal to another, in steps."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from unistep.editing.solvers import Problem
from unistep.editing.tasks.vary import Vary


class Interpolate(Vary):
    """A walk between two samples along the sphere of their noise, or between two inputs.

    References:
        Song et al. 2023, arXiv 2303.01469, appendix D, "interpolation".
    """

    summary = "go from one sample or signal to another in steps"
    takes = ("count", "strength", "to_seed")
    inputs = 2
    optional = True
    together = False
    in_streams = False
    default = 0.5
    steps_between: ClassVar[int] = 8
    """How many where the number is not given."""

    def check(self) -> None:
        """There are two steps or more."""
        super().check()
        if self.count < 2:
            raise ValueError(f"count must be at least 2, got {self.count}")

    @property
    def count(self) -> int:
        """How many steps, both ends included."""
        return self.steps_between if self.options.count is None else self.options.count

    def shares(self) -> Tensor:
        """How far along each step is, from 0 to 1."""
        return torch.linspace(0, 1, self.count)

    def problem(self, *x: Tensor) -> Problem:
        """To begin between the two inputs, of which there may be none.

        Raises:
            ValueError: If there are several pairs.
        """
        if not x:
            return Problem()
        if len(x[0]) > 1:
            raise ValueError(
                f"interpolate goes between two {self.given.noun}s, got {len(x[0])} pairs; give one at a time"
            )
        u = self.shares().view(-1, *([1] * len(self.given.shape))).to(x[0])
        return Problem(start=(1 - u) * x[0][:1] + u * x[1][:1])


def slerp(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    r"""Points on the great circle between two noises.

    .. math:: \frac{\sin((1-u)\theta)\,a + \sin(u\theta)\,b}{\sin\theta}

    Args:
        a: Noise, ``[1, *shape]``.
        b: Other noise, ``[1, *shape]``.
        u: Shares, ``[n]``.

    Returns:
        ``[n, *shape]``.

    References:
        Shoemake 1985, "Animating rotation with quaternion curves", section 3.3.
    """
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12)
    theta = cosine.clamp(-1, 1).acos()
    share = u.view(-1, *([1] * (a.dim() - 1))).to(a)
    if float(theta.sin()) < 1e-2:
        return (1 - share) * a + share * b
    return (((1 - share) * theta).sin() * a + (share * theta).sin() * b) / theta.sin()
