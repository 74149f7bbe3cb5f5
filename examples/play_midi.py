"""Play a MIDI file on a one-step instrument: every note is one network call.

    python examples/play_midi.py song.mid -o song.wav [--model notes] [--seconds 30]

Each instrument of General MIDI is mapped to the most similar one of the model, and the drums to a model of drums
(`--drums none` leaves them out). Pitches beyond the model's range are moved into it by octaves. A note lasts at most as
long as the model generates, one second; pedals and bends are ignored. Needs `pip install 'unistep[audio]'`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import unistep
from unistep.core.condition import LabelField
from unistep.demo.music import Played, check_drums, check_instrument, perform, plays_beside

FAMILIES = (
    *("piano", "vibraphone", "organ", "guitar", "guitar", "strings", "strings", "trumpet"),
    *("clarinet", "flute", "synth", "strings", "synth", "guitar", "marimba", "synth"),
)
"""For each eight programs of General MIDI, a similar instrument."""
MARIMBA = range(12, 16)
"""Programs of the second family that are of wood."""
DRUMS = 9
"""The channel of drums, counted from 0."""
STROKES = {
    "kick": (35, 36),
    "snare": (37, 38, 40),
    "clap": (39,),
    "tom": (41, 43, 45, 47, 48, 50),
    "hihat": (42, 44, 46),
    "cymbal": (49, 51, 52, 55, 57, 59),
    "bell": (53, 56, 67, 68, 80, 81),
    "shaker": (54, 58, 69, 70, 82),
    "hand drum": (60, 61, 62, 63, 64, 65, 66, 75, 76, 77),
}
"""Keys of General MIDI's percussion by kind of stroke; the others are left out."""
STROKE = 10.0
"""Longest stroke in seconds, which is what the model generates."""
LONGEST = 2 * 3600
"""Seconds of music that are held in memory; a damaged file may claim centuries."""


def notes_of(
    path: Path, instruments: tuple[str, ...], strokes: tuple[str, ...], seconds: float | None
) -> Iterator[Played]:
    """The notes of a MIDI file, in the order of their ends.

    Args:
        path: The file.
        instruments: Instruments of the model; the first one plays all others.
        strokes: Kinds of strokes of the drum model; others are left out.
        seconds: Where to stop.

    Raises:
        ValueError: If it is not a MIDI file, or is not timed in beats.
    """
    try:
        import mido
        from mido.midifiles.meta import KeySignatureError
    except ModuleNotFoundError:
        raise ValueError("this needs the package mido: pip install 'unistep[audio]'") from None
    try:
        file = mido.MidiFile(path, clip=True)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except (OSError, EOFError, ValueError, KeyError, IndexError, KeySignatureError) as error:
        raise ValueError(f"{path} is not a MIDI file: {str(error) or type(error).__name__}") from None
    if file.type == 2:
        raise ValueError(f"{path} holds several songs (MIDI type 2); save one of them as type 0 or 1")
    if file.ticks_per_beat <= 0:
        raise ValueError(f"{path} is timed in frames of film or not at all; save it with ticks for each beat")
    now, programs = 0.0, dict.fromkeys(range(16), 0)
    sounding: dict[tuple[int, int], tuple[float, int, str]] = {}

    def ended(key: tuple[int, int]) -> Played:
        start, velocity, instrument = sounding.pop(key)
        held = max(now - start, 0.05)
        return Played(start=start, seconds=held, pitch=key[1], instrument=instrument, velocity=velocity)

    for message in file:
        now += message.time
        if seconds is not None and now > seconds:
            now = seconds
            break
        if message.type == "program_change":
            programs[message.channel] = message.program
        if message.type not in ("note_on", "note_off"):
            continue
        if message.channel == DRUMS:
            kind = next((kind for kind, keys in STROKES.items() if message.note in keys and kind in strokes), None)
            if message.type == "note_on" and message.velocity > 0 and kind is not None:
                how = {"instrument": kind, "velocity": message.velocity, "drum": True}
                yield Played(start=now, seconds=STROKE, pitch=message.note, **how)
            continue
        key = message.channel, message.note
        if key in sounding:
            yield ended(key)
        if message.type == "note_on" and message.velocity > 0:
            program = programs[message.channel]
            wanted = "marimba" if program in MARIMBA else FAMILIES[program // 8]
            sounding[key] = now, message.velocity, wanted if wanted in instruments else instruments[0]
    for key in list(sounding):
        yield ended(key)


def main(arguments: list[str] | None = None) -> int:
    """Play a file; the exit code is 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("midi", type=Path, help="the file to play")
    parser.add_argument("-o", "--out", type=Path, default=Path("song.wav"), help="sound file to write, .wav or .flac")
    parser.add_argument("-m", "--model", default="notes", help="instrument: a shipped one, or the folder of a run")
    parser.add_argument(
        "--drums", help="model of drums, the shipped one where it fits the instrument; none leaves them out"
    )
    parser.add_argument("--seconds", type=float, help="play only the beginning")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first note")
    options = parser.parse_args(arguments)
    try:
        if options.seconds is not None and not options.seconds > 0:
            raise ValueError(f"--seconds must be above 0, got {options.seconds:g}")
        generator = unistep.load(options.model)
        output, _ = check_instrument(generator)
        generator.modality.check_path(options.out)
        instruments = generator.config.fields["instrument"]
        assert isinstance(instruments, LabelField)
        names = instruments.names or tuple(map(str, instruments.written))
        drums = None if options.drums == "none" else unistep.load(options.drums or "drums")
        if drums is not None and options.drums is None and not plays_beside(drums, output):
            drums = None
        strokes: tuple[str, ...] = ()
        if drums is not None:
            check_drums(drums, output)
            kinds = drums.config.fields["label"]
            assert isinstance(kinds, LabelField)
            strokes = kinds.names or tuple(map(str, kinds.written))
        piece = sorted(notes_of(options.midi, names, strokes, options.seconds), key=lambda note: note.start)
        if not piece:
            without = "" if strokes else " (drums are left out)"
            raise ValueError(f"{options.midi} has no notes to play{without}")
        if piece[-1].start > LONGEST:
            raise ValueError(
                f"{options.midi} lasts {piece[-1].start / 3600:.3g} hours, wanted at most {LONGEST / 3600:g}; play "
                "its beginning with --seconds"
            )
        performance = perform(generator, piece, drums=drums, seed=options.seed, gain=0.4)
        generator.modality.save(performance.sound, options.out)
    except ValueError as error:
        print(f"play_midi: error: {error}", file=sys.stderr)
        return 2
    length = performance.sound.shape[1] / performance.sample_rate
    notes = "1 note" if len(piece) == 1 else f"{len(piece)} notes"
    print(f"{notes}, {length:.1f} s of music, in {sum(performance.latencies):.1f} s; written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
