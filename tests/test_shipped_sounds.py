"""The shipped models of sounds: what is asked for is what is heard."""

from __future__ import annotations

import torch

import unistep
from unistep.data.sources.notes import PROGRAMS
from unistep.evaluation.pitch import cents, note_pitch

PITCHES = (50, 57, 64, 71, 78)


def test_notes_have_the_pitch_that_was_asked_for() -> None:
    model = unistep.load("notes")
    instruments = [name for name in PROGRAMS for _ in PITCHES]
    pitches = list(PITCHES) * len(PROGRAMS)
    x = model.sample(len(pitches), seed=3, instrument=instruments, pitch=pitches)
    assert x.shape == (len(pitches), 1, 16_000)
    wrong = cents(note_pitch(x[:, 0], 16_000), torch.tensor(pitches)).abs() > 50
    assert wrong.float().mean() <= 0.1
    alone = model.sample(1, seed=3 + 7, instrument=instruments[7], pitch=pitches[7])
    torch.testing.assert_close(alone[0], x[7], rtol=0, atol=1e-4)


def test_harder_strokes_are_louder() -> None:
    model = unistep.load("notes")
    soft, hard = (model.sample(10, instrument=list(PROGRAMS), pitch="C4", velocity=v).std(dim=2) for v in (40, 120))
    assert (hard > soft).float().mean() >= 0.9


def test_a_stream_plays_the_notes_that_it_is_told() -> None:
    model = unistep.load("phrases")
    asked = ["C4", "G4", "A3", "E5", "D4", "C5"]
    chunks = torch.stack(list(model.stream(seed=1, instrument="flute", pitch=asked)))
    assert chunks.shape == (6, 1, 8192)
    heard = note_pitch(chunks[:, 0, 3072:], 16_000)  # after the stroke, which comes a quarter into a chunk
    assert (cents(heard, torch.tensor([60, 67, 57, 76, 62, 72])).abs() < 50).all()


def test_kicks_are_low_and_hihats_are_high() -> None:
    model = unistep.load("drums")
    centres = []
    for label in ("kick", "hihat"):
        power = torch.fft.rfft(model.sample(8, seed=0, label=label)[:, 0]).abs().square()
        assert (power.sum(dim=1) > 1).all()  # none is silent
        hertz = torch.linspace(0, 8000, power.shape[1])
        centres.append((power * hertz).sum(dim=1) / power.sum(dim=1))
    assert centres[0].max() < 1000 < centres[1].min()
