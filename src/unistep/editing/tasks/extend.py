"""Sounds whose high frequencies are missing."""

from __future__ import annotations

from torch import Tensor

from unistep.editing.blur import Bandwidth
from unistep.editing.solvers import Settings
from unistep.editing.task import Restoration


class Extend(Restoration):
    """Frequencies up to a cutoff stay, those above are made."""

    summary = "make the high frequencies that a sound lacks"
    takes = ("cutoff", "sigma")
    needs = ("cutoff",)
    settings = Settings(first=4.0, last=0.4)
    least_first = 4.0

    def check(self) -> None:
        """There are frequencies."""
        self.require(waveform=True)
        self.operator(1)

    def operator(self, num: int) -> Bandwidth:
        """The low frequencies."""
        del num
        return Bandwidth(float(self.options.cutoff or 0), self.given.layout.rate)

    def measured(self, x: Tensor) -> Tensor:
        """Inputs without what lies above the cutoff."""
        return self.operator(len(x)).A(x)
