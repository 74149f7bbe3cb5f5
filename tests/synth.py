"""A stand-in for FluidSynth that plays sines, so that rendering is tested where it is not installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unistep.data.sources import soundfont

SYNTH = f"""#!{sys.executable}
import sys, mido, numpy as np
arguments = sys.argv[1:]
rate, out = int(arguments[arguments.index("-r") + 1]), arguments[arguments.index("-F") + 1]
assert "synth.reverb.active=0" in arguments and arguments[-2].endswith(".sf2") and arguments[-1].endswith(".mid")
events, now, program = [], 0.0, 0
for message in mido.MidiFile(arguments[-1]):
    now += message.time
    if message.type == "program_change":
        program = message.program
    if message.type == "note_on":
        events.append([now, message.note, message.velocity, now])
    if message.type == "note_off":
        events[-1][3] = now
t = np.arange(round(now * rate)) / rate
sound = np.zeros((len(t), 2), "<f4")
for begin, note, velocity, end in events:  # loud for 0.2 s, then at a tenth of that until the key is released
    here = slice(round(begin * rate), round(max(end, begin + 0.2) * rate))
    since = t[here] - begin
    level = velocity / 127 / 4 * np.where(since < 0.2, 1, 0.1)
    sine = level * np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * since)
    sound[here] = sine[:, None] * [1, (program + 1) / 128]
sound.tofile(out)
"""


def install_synth(folder: Path, monkeypatch: pytest.MonkeyPatch) -> soundfont.Font:
    """Put ``fluidsynth`` first in the path and give the default font's place to an empty file."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "fluidsynth").write_text(SYNTH)
    (programs / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    (folder / "tiny.sf2").write_bytes(b"RIFF")
    font = replace(soundfont.FONTS["fluid"], path=folder / "tiny.sf2", gain=2.0)
    monkeypatch.setitem(soundfont.FONTS, "fluid", font)
    return font
