"""Music from a one-step instrument: notes with their times, played one network call each and laid over each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.condition import Field, Range
from unistep.generator import Generator
from unistep.modalities.audio import AudioModality

RELEASE = 0.06
"""Seconds over which a note that ends before its sound does dies away."""
PEAK = 0.89
"""What the loudest sample of a piece is brought to where it would be louder."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """One note of a piece."""

    start: float
    """When its key is struck, in seconds."""
    seconds: float
    """How long it is held, at most the length of the model's notes."""
    pitch: int
    """As MIDI counts; one that the model does not reach is brought into its range by octaves."""
    instrument: str
    """A name that the model knows."""
    velocity: float = 96
    """How hard the key is struck."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Performance:
    """A piece as it sounds, and what it cost."""

    sound: Float[Tensor, "c n"]
    """Waveform in [-1, 1]."""
    sample_rate: int
    """Samples per second."""
    latencies: tuple[float, ...]
    """Seconds from the request for a note to its waveform, note by note, one at a time."""
    note_seconds: float
    """Length of a note as the model makes it."""

    def latency(self, share: float) -> float:
        """Seconds within which that share of the notes was there; 0.5 is the median."""
        return sorted(self.latencies)[round(share * (len(self.latencies) - 1))]


def perform(generator: Generator, notes: Sequence[Played], *, seed: int = 0, gain: float = 0.7) -> Performance:
    """Play a piece, each note by itself as a player would ask for it.

    Args:
        generator: A one-step model of notes, told instrument and pitch.
        notes: The piece.
        seed: Note ``i`` belongs to ``seed + i``.
        gain: Factor of every note, so that several at once find room.

    Raises:
        ValueError: If the model is not of notes, does not know an instrument, or there is nothing to play.
    """
    modality, pitches = check_instrument(generator)
    if not notes:
        raise ValueError("there is no note to play")
    rate = modality.sample_rate
    fade = torch.linspace(1, 0, max(1, round(RELEASE * rate)))
    end = max(round(note.start * rate) for note in notes) + modality.samples + len(fade)
    sound, latencies = torch.zeros(modality.channels, end), []
    generator.sample(1, instrument=notes[0].instrument)  # the first call of a network is slower than all others
    for i, note in enumerate(notes):
        begun = time.perf_counter()
        told: dict[str, Any] = {"instrument": note.instrument, "pitch": in_range(note.pitch, pitches)}
        x = generator.sample(1, seed=seed + i, **told, **_velocity(generator, note))[0]
        latencies.append(time.perf_counter() - begun)
        held = min(modality.samples, max(1, round(note.seconds * rate)))
        tail = min(len(fade), modality.samples - held)
        x[:, held : held + tail] *= fade[:tail]
        x[:, held + tail :] = 0
        begin = round(note.start * rate)
        sound[:, begin : begin + modality.samples] += gain * x
    loudest = float(sound.abs().max())
    last = max(round((note.start + min(note.seconds, modality.seconds) + RELEASE) * rate) for note in notes)
    sound = sound[:, :last] * min(1.0, PEAK / max(loudest, 1e-9))
    return Performance(sound=sound, sample_rate=rate, latencies=tuple(latencies), note_seconds=modality.seconds)


def check_instrument(generator: Generator) -> tuple[AudioModality, Field]:
    """The modality and the pitches of a model of notes.

    Raises:
        ValueError: If it is none.
    """
    pitches, instruments = (generator.config.fields.get(name) for name in ("pitch", "instrument"))
    if not (isinstance(generator.modality, AudioModality) and isinstance(pitches, Field) and instruments is not None):
        raise ValueError(f"{generator.name} cannot be played; it takes a model of sounds with instrument and pitch")
    return generator.modality, pitches


def in_range(pitch: int, pitches: Field) -> int:
    """The pitch, moved by octaves into the range of the model."""
    while pitch < pitches.first:
        pitch += 12
    while pitch > pitches.last:
        pitch -= 12
    return max(pitch, pitches.first)


def _velocity(generator: Generator, note: Played) -> dict[str, Any]:
    known = generator.config.fields.get("velocity")
    return {"velocity": min(max(note.velocity, known.low), known.high)} if isinstance(known, Range) else {}


def scale_and_beat(instruments: Sequence[str], *, tempo: float = 112.0) -> list[Played]:
    """A scale up and down, each instrument in turn, then four bars of chords over a walking bass with a beat.

    Args:
        instruments: Those of the model; the piece takes the ones that it has parts for, or else the first.
        tempo: Quarter notes a minute.
    """
    beat = 60 / tempo
    major = (60, 62, 64, 65, 67, 69, 71, 72)
    piece = []
    for i, pitch in enumerate((*major, *major[-2::-1])):
        piece.append(
            Played(start=i * beat / 2, seconds=beat / 2, pitch=pitch, instrument=instruments[i % len(instruments)])
        )
    begin = len(piece) * beat / 2 + beat

    def part(start: float, length: float, pitch: int, wanted: str, velocity: float) -> None:
        instrument = wanted if wanted in instruments else instruments[0]
        at, seconds = begin + start * beat, length * beat
        piece.append(Played(start=at, seconds=seconds, pitch=pitch, instrument=instrument, velocity=velocity))

    for bar, (root, third) in enumerate(((48, 4), (57, 3), (53, 4), (55, 4))):
        for step in range(4):
            part(4 * bar + step, 0.9, root + (0, third, 7, third)[step], "guitar", 104)
            for pitch in (root + 12, root + 12 + third, root + 19):
                part(4 * bar + step + 0.5, 0.4, pitch, "piano", 72)
        for step in range(8):  # high and short, as a beat
            part(4 * bar + step / 2, 0.2, 84 if step % 2 else 79, "marimba", 112 if step % 4 == 2 else 64)
        part(4 * bar, 3.5, root + 24 + third, "strings", 64)
    return piece
