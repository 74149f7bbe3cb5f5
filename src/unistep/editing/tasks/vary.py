"""From one signal to others like it, and from a sketch to a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from unistep.editing.solvers import Problem, Settings
from unistep.editing.task import Task, known_part, level_of


class Vary(Task):
    """Noise is added and removed again; the more noise, the more changes.

    References:
        Meng et al. 2022, arXiv 2108.01073, algorithm 1.
    """

    summary = "make variations of a picture, a sound or a video"
    takes = ("strength", "mask")
    settings = Settings(first=4.0, last=1.0)
    begins_low = True
    default: ClassVar[float] = 0.35
    """Strength where none is given."""

    def check(self) -> None:
        """The strength is one."""
        level_of(self.options.strength, self.default)

    def tuned(self, settings: Settings) -> Settings:
        """From the noise level of the strength down to 0.4 of it, as in the paper's 5.38 and 2.24."""
        first = level_of(self.options.strength, self.default) / 0.5
        return replace(settings, first=first, last=0.4 * first)

    def problem(self, *x: Tensor) -> Problem:
        """To begin at the inputs; with a mask, to change nothing outside of it."""
        constraint = None if self.options.mask is None else known_part(len(x[0]), self.mask(len(x[0])), x[0])
        return Problem(start=x[0], constraint=constraint)


class Sketch(Vary):
    """A rough drawing becomes a picture.

    References:
        Song et al. 2023, arXiv 2303.01469, appendix D, "stroke-guided image generation"; Meng et al. 2022,
        arXiv 2108.01073.
    """

    summary = "make a picture from strokes of paint, or a sound from a rough one"
    default = 0.5
