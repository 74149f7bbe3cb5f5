"""How much training is enough for good samples, as measurements say, for the plan of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EnoughItems:
    """Items that models of one kind of signal and size should see in training, repetitions counted."""

    denoiser: int | None
    """Items of a denoiser, or of any model that is trained by itself; ``None`` where that is not known."""
    student: int
    """Items of a one-step student that starts from a denoiser's weights."""
