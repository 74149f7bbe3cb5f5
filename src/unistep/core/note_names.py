"""Names of pitches, as MIDI counts them."""

from __future__ import annotations

import re

_SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def note_names(low: int, high: int) -> tuple[str, ...]:
    """Names of the pitches from ``low`` to ``high`` as MIDI counts them: 60 is C4, 61 is C#4."""
    return tuple(f"{_SHARPS[number % 12]}{number // 12 - 1}" for number in range(low, high + 1))


def note_number(name: str) -> int | None:
    """The MIDI number of a pitch such as ``C4``, ``F#3`` or ``Db4``; ``None`` for any other word."""
    match = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?\d+)", name)
    if match is None:
        return None
    letter, accidental, octave = match.groups()
    shift = {"": 0, "#": 1, "♯": 1}.get(accidental, -1)
    return _SHARPS.index(letter.upper()) + shift + 12 * (int(octave) + 1)
