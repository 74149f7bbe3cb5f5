"""What the axes of a signal mean, so that editing can name places, moments, colours and frequencies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The axes of a batch of signals ``[b, c, ...]``; those that are not named are not known to mean anything."""

    colours: bool = False
    """Whether the channels are red, green and blue."""
    space: tuple[int, ...] = ()
    """Axes of places: rows, then columns."""
    time: int | None = None
    """Axis of moments."""
    rate: float = 1.0
    """Moments in a second."""
    waveform: bool = False
    """Whether the moments are samples of a sound, so that there are frequencies along them."""
