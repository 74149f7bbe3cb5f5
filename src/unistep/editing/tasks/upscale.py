"""Higher resolution, of pictures and of videos."""

from __future__ import annotations

from unistep.editing.averages import BlockAverage
from unistep.editing.solvers import Settings
from unistep.editing.task import Restoration


class Upscale(Restoration):
    """Each pixel of the input is the mean of a block of the result.

    References:
        Song et al. 2023, arXiv 2303.01469, appendix D, "super-resolution".
    """

    summary = "make a small picture or video as large as the model's"
    takes = ("factor", "sigma")
    settings = Settings(first=2.0, last=0.8, estimated=-0.9)

    def check(self) -> None:
        """There are rows and columns, and as many blocks as there can be."""
        self.require(space=True)
        factor = self.factor
        if not 1 < factor <= min(self._fine()):
            raise ValueError(f"factor must be above 1 and at most {min(self._fine())}, got {factor:g}")

    @property
    def factor(self) -> float:
        """How many times smaller the input is."""
        return 4.0 if self.options.factor is None else self.options.factor

    def _fine(self) -> list[int]:
        return [self.given.shape[axis - 1] for axis in self.given.layout.space]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That many times smaller."""
        sizes = list(self.given.shape)
        for axis, size in zip(self.given.layout.space, self._fine(), strict=True):
            sizes[axis - 1] = max(1, round(size / self.factor))
        return tuple(sizes)

    def operator(self, num: int) -> BlockAverage:
        """Means of blocks."""
        del num
        axes = self.given.layout.space
        return BlockAverage(axes, self._fine(), [self.input_shape[axis - 1] for axis in axes])
