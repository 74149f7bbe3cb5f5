"""Clipped signals that can be restored, and those that cannot."""

from __future__ import annotations

import pytest
import torch

from unistep.editing.task import EditOptions, Given
from unistep.editing.tasks.declip import Declip
from unistep.modalities.audio import AudioModality

SOUNDS = AudioModality(sample_rate=1000, samples=100)


def task(level: float | None = None) -> Declip:
    return Declip(EditOptions(level=level), Given(shape=SOUNDS.shape, layout=SOUNDS.layout, noun=SOUNDS.noun))


def test_peaks_need_room_in_the_range_of_signals() -> None:
    """A sound that was clipped at full scale came back as it was, without a word."""
    x = (2 * torch.sin(torch.arange(100) / 5)).clamp(-1, 1)[None, None]
    for given, level in ((x, None), (x, 0.999)):
        with pytest.raises(
            ValueError, match=r"clipped at .*values end at 1, so that its peaks have no room: turn it down"
        ):
            task(level).problem(given)
    assert task().problem(x / 2).constraint is not None
