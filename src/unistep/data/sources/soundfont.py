"""FluidSynth and the soundfonts that it plays: what sources that are rendered, rather than read, have in common."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any, ClassVar

import numpy as np

from unistep.data.options import DataConfig
from unistep.data.sources.base import Source
from unistep.data.sources.packages import missing_package
from unistep.spelling import nearest_hint


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

MANY = 20
"""Instruments of which a message names a few only."""

RATE = 48_000
"""Samples per second of rendering: the font's samples have no treble beyond half of it that could fold over."""


@dataclass(frozen=True, kw_only=True)
class Rendered(Source):
    """A source that FluidSynth renders with a soundfont."""

    modality: ClassVar[str | None] = "audio"
    kind: ClassVar[str]
    """The word that its name begins with."""

    font: str
    """Name of the soundfont."""
    split: str
    """``train`` or ``test``."""
    instruments: tuple[str, ...] = ()
    """Some of the instruments; all of them without."""

    @property
    def name(self) -> str:
        """As a person writes it."""
        font = "" if self.font == next(iter(FONTS)) else f":{self.font}"
        some = f":{','.join(self.instruments)}" if self.instruments else ""
        return f"{self.kind}{font}{some}:{self.split}"


def fields_of(
    kind: str,
    rest: str,
    config: DataConfig,
    *,
    splits: Collection[str],
    instruments: Collection[str],
    others: Collection[str] = (),
) -> dict[str, Any]:
    """The fields of :class:`Rendered` that ``rest`` names: a font, a split, instruments, or several with colons.

    Args:
        kind: The source's word, for messages.
        rest: What follows the word and its colon.
        config: Has the split where ``rest`` names none.
        splits: Parts of the source.
        instruments: All that there are, in their order.
        others: Further words that the source takes, for messages.

    Raises:
        ValueError: For any other word.
    """
    font, split, some = next(iter(FONTS)), config.split, ()
    for word in filter(None, rest.split(":")):
        if word in FONTS:
            font = word
        elif word in splits:
            split = word
        elif set(word.split(",")) <= set(instruments):
            some = tuple(name for name in instruments if name in word.split(","))
        else:
            known = (*splits, *FONTS, *instruments, *others)
            *first, last = instruments
            shown = [*first, last] if len(first) < MANY else [*first[:3], f"... {last}"]
            words = ", ".join([*splits, *FONTS, *shown, *others])
            raise ValueError(f"{kind} has {words}, got {word!r}{nearest_hint(word, known)}")
    if split not in splits:
        raise ValueError(
            f"{kind} has the splits {' and '.join(splits)}, got {split!r}{nearest_hint(split, tuple(splits))}"
        )
    return {"font": font, "split": split, "instruments": some}


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
