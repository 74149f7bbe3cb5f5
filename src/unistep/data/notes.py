"""Labelled notes of instruments, rendered by FluidSynth from soundfonts: instrument, pitch and velocity are known."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from unistep.condition import AnyField, Field, Range, note_names
from unistep.data.config import DataConfig, nearest
from unistep.data.packaged import missing_package
from unistep.data.sounds import array_sound, channels_of, rate_and_length, sound_contents
from unistep.data.source import Contents, Item, Source, spread
from unistep.modalities.sound import libraries

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
LOWEST, HIGHEST = 48, 84
"""Pitches, as MIDI counts them: C3 to C6."""
FIELDS: dict[str, AnyField] = {
    "instrument": Field(size=len(PROGRAMS), names=tuple(PROGRAMS)),
    "pitch": Field(size=HIGHEST - LOWEST + 1, names=note_names(LOWEST, HIGHEST), first=LOWEST),
    "velocity": Range(low=32, high=127, default=96),
}
"""What every note is labelled with."""
VELOCITIES = {"train": (32, 48, 64, 80, 96, 112, 127), "test": (40, 72, 104, 120)}
"""How hard the keys are struck, of at most 127, by split: the test's are none of the training's."""
HELD = {"train": (0.5, 0.7, 0.9), "test": (0.6, 0.8)}
"""How long the keys are held, as shares of a note's length, by split."""


@dataclass(frozen=True, kw_only=True)
class Font:
    """A soundfont."""

    path: Path
    """The file."""
    package: str
    """Debian's package that has it."""
    licence: str
    """Under which licence it is, and whose."""
    gain: float
    """Factor after which the loudest of the notes stays just below full scale."""


FONTS = {
    "fluid": Font(
        path=Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
        package="fluid-soundfont-gm",
        licence="MIT (FluidR3 GM, Frank Wen and contributors)",
        gain=3.4,
    ),
    "timgm6mb": Font(
        path=Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
        package="timgm6mb-soundfont",
        licence="GPL-2 (TimGM6mb, Tim Brechbill and contributors)",
        gain=4.4,
    ),
}
"""Soundfonts by name, the default first."""

EXCERPT = Path(__file__).parent / "bundled" / "notes"
"""A few notes that come with this package, for tests and first trials."""

RATE = 48_000
"""Samples per second of rendering: the font's samples have no treble beyond half of it that could fold over."""

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
class Notes(Source):
    """Every instrument at every pitch, some velocities and some lengths."""

    font: str
    """Name of the soundfont."""
    split: str
    """``train`` or ``test``: other velocities, held for other times."""
    instruments: tuple[str, ...] = ()
    """Some of the instruments; all of them without."""

    @property
    def name(self) -> str:
        """As a person writes it."""
        font = "" if self.font == next(iter(FONTS)) else f":{self.font}"
        some = f":{','.join(self.instruments)}" if self.instruments else ""
        return f"notes{font}{some}:{self.split}"

    def identity(self) -> dict[str, Any]:
        """The font's file and what is asked of it.

        Raises:
            ValueError: If the font or FluidSynth is not installed.
        """
        font = installed(self.name, self.font)
        programs = {name: PROGRAMS[name] for name in self.instruments or PROGRAMS}
        grid = [programs, LOWEST, HIGHEST, VELOCITIES[self.split], HELD[self.split], font.gain]
        return {"notes": self.font, "size": font.path.stat().st_size, "grid": grid}

    def open(self, config: DataConfig) -> Contents:
        """Get ready to render.

        Raises:
            ValueError: If the font, FluidSynth or the libraries that read sounds are not installed.
        """
        self.identity()
        rate, samples = rate_and_length(config)
        notes = all_notes(self.split, samples / rate, self.instruments)
        chosen = [notes[i] for i in spread(len(notes), config.limit)]
        font = FONTS[self.font]
        return sound_contents(
            config,
            len(chosen),
            partial(_items, chosen, font, samples / rate, config),
            fields=FIELDS,
            licence=font.licence,
            parallel=False,
        )


def open_notes(rest: str, config: DataConfig) -> Source:
    """The notes that ``rest`` names: a font, a split, instruments, several of these with colons, or ``excerpt``.

    Raises:
        ValueError: For any other word.
    """
    font, split, instruments = next(iter(FONTS)), config.split, ()
    for word in filter(None, rest.split(":")):
        if word == "excerpt":
            return Excerpt()
        if word in FONTS:
            font = word
        elif word in VELOCITIES:
            split = word
        elif set(word.split(",")) <= set(PROGRAMS):
            instruments = tuple(name for name in PROGRAMS if name in word.split(","))
        else:
            known = (*VELOCITIES, *FONTS, *PROGRAMS, "excerpt")
            raise ValueError(f"notes has {', '.join(known)}, got {word!r}{nearest(word, known)}")
    if split not in VELOCITIES:
        raise ValueError(f"notes has the splits train and test, got {split!r}{nearest(split, tuple(VELOCITIES))}")
    return Notes(font=font, split=split, instruments=instruments)


def installed(source: str, font: str) -> Font:
    """The soundfont of that name, which is there, as is FluidSynth.

    Raises:
        ValueError: If the font or FluidSynth is not installed.
    """
    found = FONTS[font]
    if not found.path.is_file():
        raise missing_package(source, found.package)
    if which("fluidsynth") is None:
        raise missing_package(source, "fluidsynth")
    return found


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


def synthesise(midi: bytes, font: Font) -> np.ndarray:
    """What FluidSynth makes of a MIDI file, float32 of shape ``[n, 2]`` at 48 kHz, dry and with the font's gain.

    Raises:
        ValueError: If FluidSynth fails; says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        score, raw = Path(folder) / "notes.mid", Path(folder) / "notes.raw"
        score.write_bytes(midi)
        command = ["fluidsynth", "-n", "-i", "-q", "-T", "raw", "-O", "float", "-r", str(RATE), "-g", "0.5"]
        command += ["-o", "synth.reverb.active=0", "-o", "synth.chorus.active=0", "-o", "synth.cpu-cores=1"]
        done = subprocess.run([*command, "-F", raw, font.path, score], capture_output=True, text=True, check=False)
        if done.returncode or not raw.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"fluidsynth could not render {font.path} ({last})")
        return np.fromfile(raw, "<f4").reshape(-1, 2) * np.float32(font.gain)


def midi_file(notes: Sequence[Note], seconds: float, slot: int) -> bytes:
    """A standard MIDI file that plays notes of one instrument, ``slot`` milliseconds apart; a tick is a millisecond.

    After its length each note is cut off, however long it would sound.
    """
    track = bytearray(bytes([0, 0xC0, PROGRAMS[notes[0].instrument]]))
    rest = 0  # ticks since the last event
    for note in notes:
        held, cut = round(1000 * note.held), round(1000 * seconds)
        track += ticks(rest) + bytes([0x90, note.pitch, note.velocity])
        track += ticks(held) + bytes([0x80, note.pitch, 0])
        track += ticks(cut - held) + bytes([0xB0, 120, 0])  # all sound off
        rest = slot - cut
    return whole_file(bytes(track) + ticks(rest))


def whole_file(events: bytes) -> bytes:
    """A standard MIDI file of one track with these events; a tick is a millisecond."""
    tempo = b"\x00\xff\x51\x03" + (500_000).to_bytes(3, "big")  # half a second for 500 ticks
    track = tempo + events + b"\xff\x2f\x00"
    return struct.pack(">4sIHHH", b"MThd", 6, 0, 1, 500) + struct.pack(">4sI", b"MTrk", len(track)) + track


def ticks(number: int) -> bytes:
    """Milliseconds since the last event, in MIDI's variable length: seven bits a byte, all but the last marked."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))


def _slot(seconds: float) -> int:
    """Milliseconds from one note to the next."""
    return -(-(round(1000 * seconds) + _REST) // _BLOCK) * _BLOCK


def _items(notes: Sequence[Note], font: Font, seconds: float, config: DataConfig) -> Iterator[Item]:
    for instrument, group in groupby(notes, key=lambda note: note.instrument):
        members = list(group)
        for start in range(0, len(members), 256):  # 256 notes of a second are 150 MB as FluidSynth writes them
            some = members[start : start + 256]
            sounds = render(some, font, seconds, channels_of(config))
            for note, sound in zip(some, sounds, strict=True):
                yield Item(
                    name=f"{instrument} {note.pitch} {note.velocity}",
                    label=None,
                    read=partial(array_sound, sound, RATE, config, "keep"),
                    condition={
                        "instrument": list(PROGRAMS).index(instrument),
                        "pitch": note.pitch,
                        "velocity": note.velocity,
                    },
                )


@dataclass(frozen=True, kw_only=True)
class Excerpt(Source):
    """The notes that come with this package, 16 kHz, mono, one second."""

    @property
    def name(self) -> str:
        """As a person writes it."""
        return "notes:excerpt"

    def identity(self) -> dict[str, Any]:
        """Names and lengths of the files."""
        return {"notes-excerpt": [[path.name, path.stat().st_size] for path in self._files()]}

    def _files(self) -> list[Path]:
        return sorted(EXCERPT.glob("*.flac"))

    def open(self, config: DataConfig) -> Contents:
        """Get ready to read the files.

        Raises:
            ValueError: If the libraries that read sounds are not installed.
        """
        soundfile, _ = libraries()
        files = self._files()
        chosen = [files[i] for i in spread(len(files), config.limit)]

        def items() -> Iterator[Item]:
            for path in chosen:
                instrument, pitch, velocity = path.stem.split("-")
                values, rate = soundfile.read(path, dtype="float32", always_2d=True)
                yield Item(
                    name=path.stem,
                    label=None,
                    read=partial(array_sound, values, rate, config, "keep"),
                    condition={
                        "instrument": list(PROGRAMS).index(instrument),
                        "pitch": int(pitch),
                        "velocity": int(velocity),
                    },
                )

        licence = next(iter(FONTS.values())).licence
        return sound_contents(config, len(chosen), items, fields=FIELDS, licence=licence, parallel=False)
