"""Signals without their noise."""

from __future__ import annotations

import torch
from torch import Tensor

from unistep.editing.constraints import Linear
from unistep.editing.noise import estimate_sigma
from unistep.editing.operators import Everything
from unistep.editing.solvers import Problem, Settings
from unistep.editing.task import Task


class Denoise(Task):
    """White noise is removed: in one call, the model at the noise level of the input.

    References:
        Song et al. 2023, arXiv 2303.01469, section 5 ("denoising").
    """

    summary = "remove noise, whose size is given or estimated"
    takes = ("sigma",)
    settings = Settings(first=1.0, last=0.15, estimated=-0.9, trust=0.5)
    begins_low = True

    @property
    def key(self) -> str:
        """There is noise either way."""
        return self.name()

    def check(self) -> None:
        """The noise is some."""
        if self.options.sigma is not None and not self.options.sigma > 0:
            raise ValueError(f"sigma must be above 0, got {self.options.sigma:g}; leave it out to estimate it")

    def problem(self, *x: Tensor) -> Problem:
        """To begin at the noise level of the inputs, and stay close to them."""
        noisy = x[0]
        if self.options.sigma is None:
            sigma = estimate_sigma(noisy, self.given.layout).to(noisy)
        else:
            sigma = torch.full((len(noisy),), self.options.sigma).to(noisy)
        return Problem(start=noisy, constraint=Linear(Everything(), noisy, sigma), noise=sigma, relative=True)

    def degraded(self, x: Tensor) -> Tensor:
        """The signals, to which noise is added.

        Raises:
            ValueError: If the noise is not given.
        """
        if self.options.sigma is None:
            raise ValueError("give sigma, the size of the noise to add to clean signals")
        return x
