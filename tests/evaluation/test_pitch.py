"""The pitch tracker on signals of known pitch, and beside another implementation of the same paper."""

from __future__ import annotations

import math

import pytest
import soundfile
import torch

from unistep.data.sources.notes_excerpt import EXCERPT
from unistep.evaluation.pitch import cents, note_pitch, yin

RATE = 16_000
LIBROSA = {
    **{"flute-48-96": 131.44, "flute-60-96": 263.04, "flute-67-96": 393.05, "flute-76-96": 660.55},
    **{"guitar-48-96": 130.92, "guitar-60-96": 261.94, "guitar-67-96": 391.78, "guitar-76-96": 659.76},
    **{"organ-48-96": 130.88, "organ-60-96": 260.95, "organ-67-96": 391.74, "organ-76-96": 659.65},
    **{"piano-48-96": 131.76, "piano-60-96": 263.8, "piano-67-96": 392.95, "piano-76-96": 667.02},
}
"""Medians of ``librosa.yin`` 0.11.0 (fmin 60, fmax 2200, frames of 2048 every 512, threshold 0.15) over frames 5 to 19
of the notes that come with the package."""


def harmonics(pitch: float, *, count: int = 20, seconds: float = 0.5, fall: float = 1.0) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE)) / RATE
    partials = [k for k in range(1, count + 1) if k * pitch < RATE / 2]
    return 0.1 * sum(torch.sin(2 * math.pi * k * pitch * t + k * k) / k**fall for k in partials)  # type: ignore[return-value]


@pytest.mark.parametrize("midi", [40, 48, 55, 60, 69, 72, 84, 90])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_pitch_of_harmonics_is_their_fundamental(midi, count):
    pitch = 440 * 2 ** ((midi - 69) / 12)
    found = note_pitch(harmonics(pitch, count=count)[None], RATE)
    assert abs(float(cents(found, torch.tensor([float(midi)])))) < 10


def test_a_missing_fundamental_and_a_strong_second_partial_do_not_mislead():
    for sound in (harmonics(200) - harmonics(200, count=1), harmonics(200) + 3 * harmonics(400, count=1)):
        assert float(note_pitch(sound[None], RATE)) == pytest.approx(200, rel=0.003)


def test_noise_20_decibels_below_does_not_matter(generator):
    sound = harmonics(261.6)
    noise = torch.randn(sound.shape, generator=generator) * sound.std() / 10
    assert float(note_pitch((sound + noise)[None], RATE)) == pytest.approx(261.6, rel=0.003)


def test_periodic_sounds_are_told_from_noise(generator):
    periodic = yin(harmonics(300)[None], RATE)[1]
    noise = yin(torch.randn(1, 8_000, generator=generator), RATE)[1]
    assert periodic.max() < 0.02
    assert noise.median() > 0.5


def test_only_the_loud_part_counts():
    """A note of 220 Hz, then a far quieter one that is just as periodic."""
    sound = torch.cat([harmonics(220), 0.05 * harmonics(330, seconds=1.5)])
    assert float(note_pitch(sound[None], RATE)) == pytest.approx(220, rel=0.003)


def test_silence_has_no_pitch_and_counts_as_wrong():
    found = note_pitch(torch.zeros(2, 8_000), RATE)
    assert found.isnan().all()
    assert not (cents(found, torch.tensor([60.0, 60.0])).abs() < 50).any()


def test_sounds_of_a_batch_do_not_mix():
    sounds = torch.stack([harmonics(p) for p in (150.0, 400.0, 900.0)])
    together = note_pitch(sounds, RATE)
    alone = torch.cat([note_pitch(sound[None], RATE) for sound in sounds])
    assert torch.allclose(together, alone)


def test_too_short_a_sound_is_refused():
    with pytest.raises(ValueError, match="sounds of 500 samples are too short for a pitch; at 16000 Hz they need"):
        yin(torch.zeros(1, 500), RATE)


def test_cents():
    assert cents(torch.tensor([440.0, 880.0]), torch.tensor([69.0, 69.0])).tolist() == [0, 1200]


@pytest.mark.parametrize("name", sorted(LIBROSA))
def test_it_agrees_with_librosa_on_real_notes(name):
    sound, rate = soundfile.read(EXCERPT / f"{name}.flac", dtype="float32")
    found = float(note_pitch(torch.from_numpy(sound)[None], rate))
    assert 1200 * math.log2(found / LIBROSA[name]) == pytest.approx(0, abs=10)
    midi = torch.tensor([float(name.split("-")[1])])
    assert abs(float(cents(torch.tensor([found]), midi))) < 50
