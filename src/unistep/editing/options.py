"""The options of tasks that are numbers and words, as commands and Python take them alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How tasks are described; each says which of these it takes."""

    factor: float | None = None
    """upscale: how many times smaller the input is, to each side; 4 without."""
    sigma: float | None = None
    """Standard deviation of the noise on the input, whose values are in [-1, 1]: 0 without, and estimated for
    denoise."""
    cutoff: float | None = None
    """extend: highest frequency that the sound has, in hertz."""
    level: float | None = None
    """declip: where the input was clipped, in (0, 1]; its own peak without."""
    known: float | None = None
    """predict: how much of the beginning is known: seconds of a sound, frames of a video."""
    border: str | None = None
    """outpaint: width of the border in pixels of the model: one number, or LEFT,TOP,RIGHT,BOTTOM."""
    strength: float | None = None
    """vary, sketch, compose, interpolate: how much to change, in (0, 1]."""
    count: int | None = None
    """interpolate: how many steps, both ends included; 8 without."""
    to_seed: int | None = None
    """interpolate: seed at the other end, where there are no inputs; the next one without."""
