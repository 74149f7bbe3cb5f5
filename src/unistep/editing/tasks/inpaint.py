"""Filling in: parts of a picture, a gap in a sound, frames of a video; what lies around, and what comes next."""

from __future__ import annotations

import torch
from torch import Tensor

from unistep.editing.filling import smooth_fill
from unistep.editing.operators import Mask
from unistep.editing.solvers import Problem, Settings
from unistep.editing.task import Restoration, known_part


class Inpaint(Restoration):
    """What a mask covers is made anew; the rest stays.

    References:
        Song et al. 2023, arXiv 2303.01469, appendix D, "inpainting".
    """

    summary = "make what a mask covers anew: a part of a picture, a gap in a sound, frames of a video"
    takes = ("mask", "sigma")
    needs = ("mask",)
    settings = Settings(first=2.8, last=1.2, estimated=-0.9, excess=0.1)
    least_first = 2.0

    def check(self) -> None:
        """The mask covers something, and not all."""
        mask = self.region(1) if isinstance(self.options.mask, str) else None
        if mask is not None and (not mask.any() or mask.all()):
            raise ValueError(
                f"the mask covers {'everything' if mask.all() else 'nothing'}; there is nothing to fill in"
            )

    def region(self, num: int) -> Tensor:
        """What to make anew."""
        return self.mask(num)

    def operator(self, num: int) -> Mask:
        """What lies outside of the mask is known."""
        region = self.region(num)
        return Mask(~region.expand(-1, *self.given.shape), each=len(region) > 1)

    def measured(self, x: Tensor) -> Tensor:
        """Inputs without what the mask covers."""
        return self.operator(len(x)).A(x)

    def problem(self, *x: Tensor) -> Problem:
        """To keep what is known, from a smooth guess of the rest, of a sound from silence."""
        known = self.operator(len(x[0])).known
        constraint, layout = known_part(len(x[0]), ~known, x[0], self.sigma), self.given.layout
        if layout.waveform or not (layout.space or layout.time):
            return Problem(constraint=constraint)
        axes = sorted({*layout.space, *(() if layout.time is None else (layout.time,))})
        guess = smooth_fill(constraint.y, known.to(x[0].device), axes)
        return Problem(start=guess, constraint=constraint, shown=constraint.y)


class Outpaint(Inpaint):
    """A picture grows by a border that is made to fit."""

    summary = "make a border around a picture"
    takes = ("border", "sigma")
    needs = ("border",)

    def check(self) -> None:
        """There are rows and columns, and the border leaves some of them."""
        self.require(space=True)
        left, top, right, bottom = self._widths()
        height, width = (self.given.shape[axis - 1] for axis in self.given.layout.space)
        if not (left + right < width and top + bottom < height) or not any((left, top, right, bottom)):
            raise ValueError(
                f"border must leave a part of the {width} x {height} pixels for the input, and be wider than 0, got "
                f"{self.options.border!r}"
            )

    def _widths(self) -> tuple[int, int, int, int]:
        words = str(self.options.border).split(",")
        if len(words) not in (1, 4) or not all(word.strip().isdecimal() for word in words):
            raise ValueError(
                f"border must be one width or LEFT,TOP,RIGHT,BOTTOM in whole pixels, got {self.options.border!r}"
            )
        widths = [int(word) for word in words]
        left, top, right, bottom = widths * 4 if len(widths) == 1 else widths
        return left, top, right, bottom

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the border leaves."""
        left, top, right, bottom = self._widths()
        rows, columns = self.given.layout.space
        sizes = list(self.given.shape)
        sizes[rows - 1] -= top + bottom
        sizes[columns - 1] -= left + right
        return tuple(sizes)

    def _inner(self) -> tuple[slice, slice]:
        left, top, right, bottom = self._widths()
        height, width = (self.given.shape[axis - 1] for axis in self.given.layout.space)
        return slice(top, height - bottom), slice(left, width - right)

    def region(self, num: int) -> Tensor:
        """The border."""
        del num
        region = torch.ones(1, *self.given.shape, dtype=torch.bool)
        region[(..., *self._inner())] = False
        return region

    def problem(self, *x: Tensor) -> Problem:
        """To keep the input in its place."""
        placed = x[0].new_zeros(len(x[0]), *self.given.shape)
        placed[(..., *self._inner())] = x[0]
        return super().problem(placed)

    def degraded(self, x: Tensor) -> Tensor:
        """The inner part of clean signals."""
        return x[(..., *self._inner())]


class Predict(Inpaint):
    """The beginning of a sound or a video is known, and goes on."""

    summary = "go on from the beginning of a sound or a video"
    takes = ("known", "sigma")
    needs = ("known",)

    @property
    def known_moments(self) -> int:
        """The beginning that is known."""
        layout = self.given.layout
        return round(float(self.options.known or 0) * (layout.rate if layout.waveform else 1))

    def check(self) -> None:
        """There is a beginning and an end."""
        self.require(time=True)
        axis = self.given.layout.time
        assert axis is not None
        length = self.given.shape[axis - 1]
        if not 0 < self.known_moments < length:
            most = f"{length / self.given.layout.rate:g} seconds" if self.given.layout.waveform else f"{length} frames"
            raise ValueError(f"known must be more than 0 and less than {most}, got {self.options.known:g}")

    def region(self, num: int) -> Tensor:
        """All that comes after the beginning."""
        del num
        axis = self.given.layout.time
        assert axis is not None
        region = torch.ones(1, *self.given.shape, dtype=torch.bool)
        region.narrow(axis, 0, self.known_moments).fill_(False)
        return region
