"""One signal put into another."""

from __future__ import annotations

import torch
from torch import Tensor

from unistep.editing.solvers import Problem
from unistep.editing.task import known_part
from unistep.editing.tasks.vary import Vary


class Compose(Vary):
    """What a mask covers comes from the second input, and is changed to fit into the first, which stays.

    References:
        Meng et al. 2022, arXiv 2108.01073, section 4.2 ("image compositing").
    """

    summary = "put a part of a second picture into the first, and make it fit"
    takes = ("mask", "strength")
    needs = ("mask",)
    inputs = 2
    default = 0.25

    def problem(self, *x: Tensor) -> Problem:
        """To begin at the second input inside the mask, and keep the first outside."""
        mask = self.mask(len(x[0]))
        return Problem(start=torch.where(mask, x[1], x[0]), constraint=known_part(len(x[0]), mask, x[0]))
