"""Labelled notes of instruments, rendered by FluidSynth from soundfonts: instrument, pitch and velocity are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unistep.core.condition import AnyField, LabelField, ScalarField
from unistep.core.note_names import note_names
from unistep.data.options import DataConfig
from unistep.data.sources.audio_items import array_audio, audio_manifest, channels_of
from unistep.data.sources.base import Item, Source, SourceManifest
from unistep.data.sources.general_midi import GENERAL_MIDI
from unistep.data.sources.limits import evenly_spaced
from unistep.data.sources.midi import ticks, whole_file
from unistep.data.sources.soundfont import FONTS, RATE, Font, Rendered, fields_of, installed, synthesise
from unistep.modalities.audio_options import AudioOptions
from unistep.modalities.base import Modality
from unistep.modalities.feature_roles import FeatureRoles

PROGRAMS = {
    "piano": 0,
    "vibraphone": 11,
    "marimba": 12,
    "organ": 20,
    "guitar": 24,
    "strings": 48,
    "trumpet": 56,
    "clarinet": 71,
    "flute": 73,
    "synth": 80,
}
"""Instruments, with their numbers in General MIDI, from 0."""
GENERAL = {name: number for number, name in enumerate(GENERAL_MIDI)}
"""All of them, by their own names."""
LOWEST, HIGHEST = 48, 84
"""Pitches, as MIDI counts them: C3 to C6."""
FIELDS: dict[str, AnyField] = {
    "instrument": LabelField(size=len(PROGRAMS), names=tuple(PROGRAMS)),
    "pitch": LabelField(size=HIGHEST - LOWEST + 1, names=note_names(LOWEST, HIGHEST), first=LOWEST),
    "velocity": ScalarField(low=32, high=127, default=96),
}
"""What every note is labelled with; of all instruments, their number takes the place of the ten."""
VELOCITIES = {"train": (32, 48, 64, 80, 96, 112, 127), "test": (40, 72, 104, 120)}
"""How hard the keys are struck, of at most 127, by split: the test's are none of the training's."""
HELD = {"train": (0.5, 0.7, 0.9), "test": (0.6, 0.8)}
"""How long the keys are held, as shares of a note's length, by split."""


_BLOCK = 4  # milliseconds: FluidSynth starts notes at multiples of 64 samples
_REST = 300  # milliseconds of silence after a note


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note to render."""

    instrument: str
    pitch: int
    velocity: int
    held: float
    """Seconds from the stroke to the release of the key."""


@dataclass(frozen=True, kw_only=True)
class Notes(Rendered):
    """Every instrument at every pitch, some velocities and some lengths; those of the test part are others."""

    kind: ClassVar[str] = "notes"
    usage: ClassVar[str] = "notes"
    splits: ClassVar[tuple[str, ...]] = tuple(VELOCITIES)

    general: bool = False
    """Whether the instruments are all those of General MIDI rather than the ten."""

    @classmethod
    def feature_roles(cls, modality: Modality) -> FeatureRoles:
        """The classifier of instrument and pitch selects; what ships takes mono notes of a second at 16 kHz."""
        if modality.shape != (1, 16_000) or modality.rate != 16_000:
            return modality.feature_roles()
        return FeatureRoles(selection="notes", reporting=("notes-vicreg", "random-convolutions:2", "spectrum"))

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Source:
        """A font, a split, instruments, several of these with colons, or ``excerpt``.

        The instruments are ten, or with the word ``general`` all of General MIDI.

        Raises:
            ValueError: For any other word.
        """
        from unistep.data.sources.notes_excerpt import Excerpt

        del downloads
        words = rest.split(":")
        if "excerpt" in words:
            return Excerpt()
        general = "general" in words
        rest = ":".join(word for word in words if word != "general")
        instruments, others = (GENERAL, ()) if general else (PROGRAMS, ("excerpt", "general"))
        found = fields_of(cls.kind, rest, config, splits=VELOCITIES, instruments=instruments, others=others)
        return cls(**found, general=general)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return super().name.replace("notes", "notes:general", 1) if self.general else super().name

    @property
    def programs(self) -> dict[str, int]:
        """All instruments that a note can be labelled with, with their numbers."""
        return GENERAL if self.general else PROGRAMS

    def identity(self) -> dict[str, Any]:
        """The font's file and what it is to play.

        Raises:
            ValueError: If the font or FluidSynth is not installed.
        """
        font = installed(self.name, self.font)
        programs = {name: self.programs[name] for name in self.instruments or self.programs}
        grid = [programs, LOWEST, HIGHEST, VELOCITIES[self.split], HELD[self.split], font.gain]
        return {"notes": self.font, "size": font.path.stat().st_size, "grid": grid}

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to render.

        Raises:
            ValueError: If the font, FluidSynth or the libraries that read sounds are not installed.
        """
        self.identity()
        options: AudioOptions = config.options_for(self.modality_of(config))
        seconds = options.samples / options.rate
        notes = all_notes(self.split, seconds, self.instruments or tuple(self.programs))
        chosen = [notes[i] for i in evenly_spaced(len(notes), config.limit)]
        font, names = FONTS[self.font], tuple(self.programs)
        return audio_manifest(
            options,
            len(chosen),
            partial(_items, chosen, names, font, seconds, options),
            fields=FIELDS | {"instrument": LabelField(size=len(names), names=names)},
            licence=font.licence,
            parallel=False,
        )


def all_notes(split: str, seconds: float, instruments: Sequence[str] = ()) -> list[Note]:
    """The notes of a split, instrument by instrument; of all instruments without a choice."""
    return [
        Note(instrument=instrument, pitch=pitch, velocity=velocity, held=share * seconds)
        for instrument in instruments or PROGRAMS
        for pitch in range(LOWEST, HIGHEST + 1)
        for velocity in VELOCITIES[split]
        for share in HELD[split]
    ]


def render(notes: Sequence[Note], font: Font, seconds: float, channels: int) -> np.ndarray:
    """Sounds of notes of one instrument, float32 of shape ``[n, 48000 seconds, channels]``, dry: without reverb.

    Each begins with the stroke of its key.

    Raises:
        ValueError: If FluidSynth fails; says how.
    """
    slot = _slot(seconds)
    stereo = synthesise(midi_file(notes, seconds, slot), font)
    length = slot * RATE // 1000
    missing = len(notes) * length - len(stereo)
    stereo = np.concatenate([stereo, np.zeros((max(0, missing), 2), np.float32)])[: len(notes) * length]
    cut = stereo.reshape(len(notes), length, 2)[:, : round(seconds * RATE)]
    return cut.mean(axis=2, keepdims=True) if channels == 1 else cut


def midi_file(notes: Sequence[Note], seconds: float, slot: int) -> bytes:
    """A standard MIDI file that plays notes of one instrument, ``slot`` milliseconds apart; a tick is a millisecond.

    After its length each note is cut off, however long it would sound.
    """
    track = bytearray(bytes([0, 0xC0, (GENERAL | PROGRAMS)[notes[0].instrument]]))
    rest = 0  # ticks since the last event
    for note in notes:
        held, cut = round(1000 * note.held), round(1000 * seconds)
        track += ticks(rest) + bytes([0x90, note.pitch, note.velocity])
        track += ticks(held) + bytes([0x80, note.pitch, 0])
        track += ticks(cut - held) + bytes([0xB0, 120, 0])  # all sound off
        rest = slot - cut
    return whole_file(bytes(track) + ticks(rest))


def _slot(seconds: float) -> int:
    """Milliseconds from one note to the next."""
    return -(-(round(1000 * seconds) + _REST) // _BLOCK) * _BLOCK


def _items(
    notes: Sequence[Note], names: Sequence[str], font: Font, seconds: float, options: AudioOptions
) -> Iterator[Item]:
    for instrument, group in groupby(notes, key=lambda note: note.instrument):
        members = list(group)
        for start in range(0, len(members), 256):  # 256 notes of a second are 150 MB as FluidSynth writes them
            some = members[start : start + 256]
            sounds = render(some, font, seconds, channels_of(options))
            for note, sound in zip(some, sounds, strict=True):
                yield Item(
                    name=f"{instrument} {note.pitch} {note.velocity}",
                    label=None,
                    read=partial(array_audio, sound, RATE, options, "keep"),
                    condition={
                        "instrument": names.index(instrument),
                        "pitch": note.pitch,
                        "velocity": note.velocity,
                    },
                )
