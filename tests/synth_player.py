"""What the stand-in for FluidSynth does with its command line: it plays sines."""

from __future__ import annotations

from collections.abc import Sequence

import mido
import numpy as np


def play(arguments: Sequence[str]) -> None:
    """Write the samples of a MIDI file: each note is loud for 0.2 s, then at a tenth of that until it is released."""
    rate, out = int(arguments[arguments.index("-r") + 1]), arguments[arguments.index("-F") + 1]
    assert "synth.reverb.active=0" in arguments
    assert arguments[-2].endswith(".sf2")
    assert arguments[-1].endswith(".mid")
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
    for begin, note, velocity, end in events:
        here = slice(round(begin * rate), round(max(end, begin + 0.2) * rate))
        since = t[here] - begin
        level = velocity / 127 / 4 * np.where(since < 0.2, 1, 0.1)
        sine = level * np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * since)
        sound[here] = sine[:, None] * [1, (program + 1) / 128]
    sound.tofile(out)
