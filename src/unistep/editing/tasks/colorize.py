"""Colours for grey pictures and videos."""

from __future__ import annotations

from torch import Tensor

from unistep.editing.averages import Luma
from unistep.editing.solvers import Settings
from unistep.editing.task import Restoration


class Colorize(Restoration):
    """The brightness of each pixel stays, its colour is made.

    References:
        Song et al. 2023, arXiv 2303.01469, appendix D, "colorization".
    """

    summary = "give a grey picture or video colours, keeping its brightness"
    takes = ("sigma",)
    settings = Settings(first=16.0, last=0.6)
    least_first = 16.0

    def check(self) -> None:
        """There are colours."""
        self.require(colours=True)

    def operator(self, num: int) -> Luma:
        """Brightness."""
        del num
        return Luma()

    def measured(self, x: Tensor) -> Tensor:
        """The brightness of inputs, which are read as pictures in colour."""
        return Luma().A(x)

    def degraded(self, x: Tensor) -> Tensor:
        """Grey pictures of the same brightness."""
        return Luma().lift(Luma().A(x)).contiguous()
