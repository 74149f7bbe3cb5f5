"""Music from a one-step instrument: notes with their times, played one network call each and laid over each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import LabelField, ScalarField
from unistep.generation.generator import Generator
from unistep.modalities.audio import AudioModality

RELEASE = 0.06
"""Seconds over which a note that ends before its sound does dies away."""
KIT = frozenset({"kick", "snare", "hihat"})
"""Drums that the beat is played on."""
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
    drum: bool = False
    """Whether the instrument is a class of the model of drums, which plays it then; the pitch has no effect."""


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


def perform(
    generator: Generator,
    notes: Sequence[Played],
    *,
    drums: Generator | None = None,
    seed: int = 0,
    gain: float = 0.7,
) -> Performance:
    """Play a piece, each note by itself as a player would ask for it.

    Args:
        generator: A one-step model of notes with the conditions instrument and pitch.
        notes: The piece.
        drums: A one-step model of drums with the condition label, at the same sampling rate.
        seed: Note ``i`` belongs to ``seed + i``.
        gain: Factor of every note, so that several at once find room.

    Raises:
        ValueError: If the model is not of notes, does not know an instrument, or there is nothing to play.
    """
    audio, pitches = check_instrument(generator)
    if drums is not None:
        check_drums(drums, audio)
    if not notes:
        raise ValueError("there is no note to play")
    rate = audio.sample_rate
    fade = torch.linspace(1, 0, max(1, round(RELEASE * rate)))
    longest = max(generator.signal_shape[-1], 0 if drums is None else drums.signal_shape[1])
    end = max(round(note.start * rate) for note in notes) + longest + len(fade)
    sound, latencies = torch.zeros(audio.channels, end), []
    for instrument in filter(None, (generator, drums)):
        instrument.sample(1)  # the first call of a network is slower than all others
    for i, note in enumerate(notes):
        begun = time.perf_counter()
        if note.drum and drums is not None:
            x = drums.sample(1, seed=seed + i, label=note.instrument)[0] * (note.velocity / 127)
        else:
            condition: dict[str, Any] = {"instrument": note.instrument, "pitch": in_range(note.pitch, pitches)}
            x = generator.sample(1, seed=seed + i, **condition, **_velocity(generator, note))[0]
        latencies.append(time.perf_counter() - begun)
        length = x.shape[1]
        held = min(length, max(1, round(note.seconds * rate)))
        tail = min(len(fade), length - held)
        x[:, held : held + tail] *= fade[:tail]
        x[:, held + tail :] = 0
        begin = round(note.start * rate)
        sound[:, begin : begin + length] += gain * x
    loudest = float(sound.abs().max())
    last = max(round((note.start + min(note.seconds, longest / rate) + RELEASE) * rate) for note in notes)
    sound = sound[:, :last] * min(1.0, PEAK / max(loudest, 1e-9))
    return Performance(
        sound=sound, sample_rate=rate, latencies=tuple(latencies), note_seconds=generator.signal_shape[-1] / rate
    )


def check_instrument(generator: Generator) -> tuple[AudioModality, LabelField]:
    """What the sounds of a model of notes are, and its pitches.

    Raises:
        ValueError: If it is none.
    """
    pitches, instruments = (generator.config.fields.get(name) for name in ("pitch", "instrument"))
    if not isinstance(pitches, LabelField) or instruments is None:
        raise ValueError(f"{generator.name} cannot be played; it takes a model of sounds with instrument and pitch")
    if generator.config.context is not None:
        raise ValueError(f"{generator.name} plays without end, not note by note; use unistep stream")
    return AudioModality.expect(generator.modality, "notes"), pitches


def plays_beside(drums: Generator, instrument: AudioModality) -> bool:
    """Whether drums have the sampling rate and the channels of an instrument."""
    theirs = AudioModality.expect(drums.modality, "drums")
    return (theirs.sample_rate, theirs.channels) == (instrument.sample_rate, instrument.channels)


def check_drums(drums: Generator, instrument: AudioModality) -> None:
    """Say whether a model of drums can play beside an instrument.

    Raises:
        ValueError: If it cannot.
    """
    if "label" not in drums.config.fields:
        raise ValueError(f"{drums.name} cannot play drums; it takes a model of sounds with a label")
    theirs = AudioModality.expect(drums.modality, "drums")
    if not plays_beside(drums, instrument):
        raise ValueError(
            f"{drums.name} plays at {theirs.sample_rate} Hz in {theirs.channels} channels, the instrument at "
            f"{instrument.sample_rate} Hz in {instrument.channels}; they must agree"
        )


def in_range(pitch: int, pitches: LabelField) -> int:
    """The pitch, moved by octaves into the range of the model."""
    while pitch < pitches.written[0]:
        pitch += 12
    while pitch > pitches.last:
        pitch -= 12
    return min((known for known in pitches.written if known >= pitch), default=pitches.last)


def _velocity(generator: Generator, note: Played) -> dict[str, Any]:
    known = generator.config.fields.get("velocity")
    return {"velocity": min(max(note.velocity, known.low), known.high)} if isinstance(known, ScalarField) else {}


def scale_and_beat(instruments: Sequence[str], drums: Sequence[str] = (), *, tempo: float = 112.0) -> list[Played]:
    """A scale up and down, each instrument in turn, then four bars of chords over a walking bass with a beat.

    Args:
        instruments: Those of the model; the piece takes the ones that it has parts for, or else the first.
        drums: Classes of a model of drums; without kick, snare and hihat the beat is high and short notes.
        tempo: Quarter notes a minute.
    """
    beat = 60 / tempo
    major = (60, 62, 64, 65, 67, 69, 71, 72)
    scale = (*major, *major[-2::-1])
    piece = [
        Played(start=i * beat / 2, seconds=beat / 2, pitch=pitch, instrument=instruments[i % len(instruments)])
        for i, pitch in enumerate(scale)
    ]
    begin = len(scale) * beat / 2 + beat
    kit = set(drums) >= KIT

    def part(start: float, length: float, pitch: int, wanted: str, velocity: float, *, drum: bool = False) -> None:
        instrument = wanted if drum or wanted in instruments else instruments[0]
        at, held = begin + start * beat, length * beat
        piece.append(Played(start=at, seconds=held, pitch=pitch, instrument=instrument, velocity=velocity, drum=drum))

    for bar, (root, third) in enumerate(((48, 4), (57, 3), (53, 4), (55, 4))):
        part(4 * bar, 3.5, root + 24 + third, "strings", 64)
        for step in range(4):
            part(4 * bar + step, 0.9, root + (0, third, 7, third)[step], "guitar", 104)
            for pitch in (root + 12, root + 12 + third, root + 19):
                part(4 * bar + step + 0.5, 0.4, pitch, "piano", 72)
            if kit:
                part(4 * bar + step, 1, 0, "snare" if step % 2 else "kick", 110, drum=True)
        for step in range(8):
            if kit:
                part(4 * bar + step / 2, 0.5, 0, "hihat", 40, drum=True)
            else:
                part(4 * bar + step / 2, 0.2, 84 if step % 2 else 79, "marimba", 112 if step % 4 == 2 else 64)
    return sorted(piece, key=lambda note: note.start)
