"""Music without an end to learn from: phrases of instruments, rendered by FluidSynth, in pairs of chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from unistep.core.condition import AnyField, LabelField
from unistep.core.note_names import note_names
from unistep.core.seeding import derived_seed
from unistep.data.options import DataConfig
from unistep.data.sources.audio_items import audio_manifest, channels_of
from unistep.data.sources.base import Item, SourceManifest
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.midi import ticks, whole_file
from unistep.data.sources.soundfont import RATE, Font, Rendered, fields_of, installed, synthesise
from unistep.modalities.audio_options import AudioOptions
from unistep.modalities.audio_reading import PEAK, quantise, resample
from unistep.modalities.recording import Recording

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
"""Where in its chunk a note is struck, so that what crosses a chunk boundary is the ringing of the last one."""


@dataclass(frozen=True, kw_only=True)
class Phrases(Rendered):
    """One note a chunk, drawn evenly from the scale, each held until the next is struck.

    An example is two chunks in a row. The first of a phrase begins in silence. A phrase is stored once, and its
    examples are windows of it.
    """

    kind: ClassVar[str] = "phrases"
    usage: ClassVar[str] = "phrases"
    splits: ClassVar[tuple[str, ...]] = tuple(PHRASES)

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """A font, a split, instruments, or several of these with colons.

        Raises:
            ValueError: For any other word.
        """
        del downloads
        return cls(**fields_of(cls.kind, rest, config, splits=PHRASES, instruments=PROGRAMS))

    def identity(self) -> dict[str, Any]:
        """The font's file and what it is to play.

        Raises:
            ValueError: If the font or FluidSynth is not installed.
        """
        font = installed(self.name, self.font)
        programs = {name: PROGRAMS[name] for name in self.instruments or PROGRAMS}
        score = [programs, PITCHES, self.split, PHRASES[self.split], LENGTH, VELOCITY, STROKE, font.gain]
        return {"phrases": self.font, "size": font.path.stat().st_size, "asked": score}

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to render.

        Raises:
            ValueError: If the font, FluidSynth or the libraries that read sounds are not installed, or two chunks are
                no even number of samples.
        """
        font = installed(self.name, self.font)
        options: AudioOptions = config.options_for(self.modality_of(config))
        if options.samples % 2:
            raise ValueError(f"phrases need two chunks of equal length, got seconds {options.seconds}; try 1.024")
        programs = self.instruments or tuple(PROGRAMS)
        count = PHRASES[self.split]
        chosen = frozenset(evenly_spaced(len(programs) * count * LENGTH, config.limit))

        def items() -> Iterator[Item]:
            for i, instrument in enumerate(programs):
                for number in range(count):
                    first = (i * count + number) * LENGTH
                    wanted = [k for k in range(LENGTH) if first + k in chosen]
                    if wanted:
                        yield _item(instrument, self.split, number, wanted, font, options)

        more = {"fields": FIELDS, "licence": font.licence, "parallel": False, "windowed": True}
        return audio_manifest(options, len(chosen), items, **more)


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


def _item(instrument: str, split: str, number: int, wanted: list[int], font: Font, options: AudioOptions) -> Item:
    """A phrase with some of its pairs of chunks."""
    positions = notes_of(instrument, split, number)
    names = FIELDS["pitch"].names  # type: ignore[union-attr]
    return Item(
        name=f"{instrument} {number}",
        label=None,
        read=partial(_read, instrument, positions, wanted, font, options),
        conditions=tuple({"instrument": instrument, "pitch": names[positions[k]]} for k in wanted),
    )


def _read(instrument: str, positions: list[int], wanted: list[int], font: Font, options: AudioOptions) -> Recording:
    chunk = options.samples // 2
    sound = phrase(instrument, positions, chunk / options.rate, font)
    if channels_of(options) == 1:
        sound = sound.mean(axis=1, keepdims=True)
    sound = resample(sound, RATE, options.rate)
    missing = chunk * (len(positions) + 1) - len(sound)  # what rounding the rates may cost
    sound = np.concatenate([sound, np.zeros((max(0, missing), sound.shape[1]), sound.dtype)])
    gain = PEAK / float(np.abs(sound).max()) if options.loudness == "peak" else 1.0
    return Recording(blocks=iter([quantise(sound * gain)]), starts=tuple(k * chunk for k in wanted))
