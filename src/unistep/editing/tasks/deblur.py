"""Sharper pictures and videos, where it is known what blurred them."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from unistep.editing.blur import Blur, parse_kernel
from unistep.editing.solvers import Settings
from unistep.editing.task import Restoration


class Deblur(Restoration):
    """A blur with a known kernel is undone."""

    summary = "sharpen a picture or video that a known kernel has blurred"
    takes = ("kernel", "sigma")
    needs = ("kernel",)
    settings = Settings(first=4.0, last=0.4, estimated=-0.9)

    def check(self) -> None:
        """There are rows and columns, and a kernel."""
        self.require(space=True)
        self.blur  # noqa: B018

    @cached_property
    def blur(self) -> Blur:
        """The blur."""
        kernel = self.options.kernel
        weights = kernel if isinstance(kernel, Tensor) else parse_kernel(str(kernel))
        height, width = (self.given.shape[axis - 1] for axis in self.given.layout.space)
        return Blur(weights, (height, width))

    def operator(self, num: int) -> Blur:
        """The blur."""
        del num
        return self.blur
