"""Music without an end to learn from: phrases of instruments, rendered by FluidSynth, in pairs of chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from unistep.core.condition import AnyField, LabelField
from unistep.core.note_names import note_names
from unistep.core.seeding import derived_seed
from unistep.data.options import DataConfig
from unistep.data.source import Item, Source, SourceManifest, evenly_spaced
from unistep.data.sources.soundfont import RATE, Font, Rendered, installed, named, synthesise, ticks, whole_file
from unistep.data.sources.sounds import array_sound, channels_of, rate_and_length, sound_contents
from unistep.modalities.audio_reading import resample

PROGRAMS = {"piano": 0, "vibraphone": 11, "marimba": 12, "harp": 46, "strings": 48, "flute": 73}
"""Instruments that ring or go on sounding, with their numbers in General MIDI, from 0."""
PITCHES = tuple(pitch for pitch in range(48, 85) if pitch % 12 in (0, 2, 4, 7, 9))
"""A pentatonic scale, in which any note may follow any other, from C3 to C6, as MIDI counts."""
FIELDS: dict[str, AnyField] = {
    "instrument": LabelField(size=len(PROGRAMS), names=tuple(PROGRAMS)),
    "pitch": LabelField(
        size=len(PITCHES), names=tuple(note_names(pitch, pitch)[0] for pitch in PITCHES), numbers=PITCHES
    ),
}
"""What every example is labelled with: the instrument, and the note that is struck in its second half."""
PHRASES = {"train": 40, "test": 6}
"""Phrases of each instrument, by split; no two have the same notes."""
LENGTH = 24
"""Notes of a phrase."""
VELOCITY = 88
"""How hard the keys are struck, of at most 127."""
STROKE = 0.25
"""Where in its chunk a note is struck, so that what crosses a seam is the ringing of the last one."""


@dataclass(frozen=True, kw_only=True)
class Phrases(Rendered):
    """One note a chunk, drawn evenly from the scale, each held until the next is struck.

    An example is two chunks in a row. The first of a phrase begins in silence.
    """

    kind: ClassVar = "phrases"

    def identity(self) -> dict[str, Any]:
        """The font's file and what is asked of it.

        Raises:
            ValueError: If the font or FluidSynth is not installed.
        """
        font = installed(self.name, self.font)
        programs = {name: PROGRAMS[name] for name in self.instruments or PROGRAMS}
        asked = [programs, PITCHES, self.split, PHRASES[self.split], LENGTH, VELOCITY, STROKE, font.gain]
        return {"phrases": self.font, "size": font.path.stat().st_size, "asked": asked}

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to render.

        Raises:
            ValueError: If the font, FluidSynth or the libraries that read sounds are not installed, or two chunks are
                no even number of samples.
        """
        font = installed(self.name, self.font)
        if rate_and_length(config)[1] % 2:
            raise ValueError(f"phrases need two chunks of equal length, got seconds {config.seconds}; try 1.024")
        each = PHRASES[self.split] * LENGTH
        programs = self.instruments or tuple(PROGRAMS)
        chosen = frozenset(evenly_spaced(len(programs) * each, config.limit))

        def items() -> Iterator[Item]:
            for i, instrument in enumerate(programs):
                for number in range(PHRASES[self.split]):
                    first = i * each + number * LENGTH
                    wanted = [k for k in range(LENGTH) if first + k in chosen]
                    if wanted:
                        yield from _examples(instrument, self.split, number, wanted, font, config)

        return sound_contents(config, len(chosen), items, fields=FIELDS, licence=font.licence, parallel=False)


def open_phrases(rest: str, config: DataConfig) -> Source:
    """The phrases that ``rest`` names: a font, a split, instruments, or several of these with colons.

    Raises:
        ValueError: For any other word.
    """
    return Phrases(**named(Phrases.kind, rest, config, splits=PHRASES, instruments=PROGRAMS))


def notes_of(instrument: str, split: str, number: int) -> list[int]:
    """Positions in the scale of the notes of a phrase."""
    seed = derived_seed("phrase", instrument, split, number)
    return np.random.default_rng(seed).integers(len(PITCHES), size=LENGTH).tolist()


def phrase(instrument: str, positions: list[int], seconds: float, font: Font) -> np.ndarray:
    """A silent chunk and then one for each note, float32 of shape ``[n, 2]`` at 48 kHz.

    Args:
        instrument: A name.
        positions: The notes, as positions in the scale.
        seconds: Length of a chunk.
        font: The soundfont.

    Raises:
        ValueError: If FluidSynth fails.
    """
    events = bytearray(bytes([0, 0xC0, PROGRAMS[instrument]]))
    now = 0
    for i, position in enumerate(positions):
        pitch, stroke = PITCHES[position], round(1000 * seconds * (i + 1 + STROKE))
        release = round(1000 * seconds * (i + 2 + STROKE))
        # All keys are up when the next one is struck: the old release and the new stroke fall on one tick, in order.
        events += ticks(stroke - now) + bytes([0x90, pitch, VELOCITY])
        events += ticks(release - stroke) + bytes([0x80, pitch, 0])
        now = release
    wanted = round((len(positions) + 1) * seconds * RATE)
    sound = synthesise(whole_file(bytes(events) + ticks(1000)), font)[:wanted]
    return np.concatenate([sound, np.zeros((wanted - len(sound), 2), np.float32)])


def _examples(
    instrument: str, split: str, number: int, wanted: list[int], font: Font, config: DataConfig
) -> Iterator[Item]:
    """Some of the pairs of chunks of one phrase."""
    rate, samples = rate_and_length(config)
    chunk, positions = samples // 2, notes_of(instrument, split, number)
    sound = phrase(instrument, positions, chunk / rate, font)
    if channels_of(config) == 1:
        sound = sound.mean(axis=1, keepdims=True)
    sound = resample(sound, RATE, rate)
    for k in wanted:
        yield Item(
            name=f"{instrument} {number} {k}",
            label=None,
            read=partial(array_sound, sound[k * chunk : k * chunk + samples], rate, config, "keep"),
            condition={"instrument": instrument, "pitch": FIELDS["pitch"].names[positions[k]]},  # type: ignore[union-attr]
        )
