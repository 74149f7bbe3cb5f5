"""A folder with every kind of sound that a person may have, and what should become of each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile


def tone(seconds: float, rate: int, *, frequency: float = 440.0, channels: int = 1, level: float = 0.5) -> np.ndarray:
    """Sines, one for each channel and each a fifth above the last, ``[n, channels]``."""
    t = np.arange(round(seconds * rate)) / rate
    return level * np.stack([np.sin(2 * np.pi * frequency * 1.5**c * t) for c in range(channels)], axis=1)


def make_good(folder: Path) -> dict[str, str]:
    """Odd but usable sounds; maps each name to a part of its remark, empty for none."""
    folder.mkdir(parents=True, exist_ok=True)
    notes = {}

    def write(name: str, sound: np.ndarray, rate: int, note: str = "", **options: str) -> None:
        soundfile.write(folder / name, sound, rate, **options)
        notes[name] = note

    whole = tone(1, 16_000)
    for name in ("plain.wav", "plain.flac", "plain.aiff", "plain.au", "UPPER.WAV", "ünïcødé [red] 名.wav"):
        write(name, whole, 16_000)
    for name in ("plain.ogg", "plain.mp3"):
        write(name, tone(1, 44_100), 44_100)
    write("opus.opus", tone(1, 48_000), 48_000, format="OGG", subtype="OPUS")
    write("deep.wav", whole, 16_000, subtype="PCM_24")
    write("bytes.wav", whole, 16_000, subtype="PCM_U8")
    write("float.wav", 4 * whole, 16_000, subtype="FLOAT")  # beyond full scale, and not clipped
    write("stereo.wav", tone(1, 44_100, channels=2), 44_100)
    write("surround.flac", tone(1, 16_000, channels=6), 16_000)
    write("half_silent.wav", whole * [1, 0], 16_000)
    write("no_suffix", whole, 16_000, format="WAV")
    write("lying.txt", whole, 16_000, format="FLAC")
    write("low.wav", tone(1, 8_000), 8_000, "lower rate")
    write("high.wav", tone(1, 192_000), 192_000)
    write("clipped.wav", np.clip(4 * whole, -1, 1), 16_000, "clipped")
    write("short.wav", tone(0.2, 16_000), 16_000, "shorter")
    write("long.wav", tone(3, 16_000), 16_000, "longer")
    write("one_sample.wav", np.full((1, 1), 0.5), 16_000, "shorter")
    write("late.wav", np.concatenate([np.zeros((40_000, 1)), tone(0.99, 16_000)]), 16_000)
    piped = bytearray((folder / "plain.wav").read_bytes())  # by a program that could not go back to its header
    piped[4:8] = piped[40:44] = b"\xff" * 4
    (folder / "piped.wav").write_bytes(piped)
    notes["piped.wav"] = ""
    return notes


def make_bad(folder: Path) -> dict[str, str]:
    """Unusable files; maps each name to a part of the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {}

    def write(name: str, sound: np.ndarray, reason: str, rate: int = 16_000, **options: str) -> None:
        soundfile.write(folder / name, sound, rate, **options)
        reasons[name] = reason

    whole = tone(1, 16_000)
    for suffix, reason in (("wav", "truncated"), ("aiff", "truncated"), ("flac", "broken"), ("ogg", "broken")):
        write(f"half.{suffix}", whole, reason)
        content = (folder / f"half.{suffix}").read_bytes()
        (folder / f"half.{suffix}").write_bytes(content[: len(content) // 2])
    write("damaged.flac", np.random.default_rng(0).normal(size=(16_000, 1)) / 8, "broken")
    content = bytearray((folder / "damaged.flac").read_bytes())
    content[9_000:10_000] = bytes(1_000)
    (folder / "damaged.flac").write_bytes(content)
    write("header.wav", whole, "broken")
    (folder / "header.wav").write_bytes((folder / "header.wav").read_bytes()[:30])
    write("silent.wav", np.zeros((16_000, 1)), "silent")
    write("nothing.wav", np.zeros((0, 1)), "holds no samples")
    write("opposed.wav", whole * [1, -1], "cancel")
    write("nan.wav", np.full((16_000, 1), np.nan), "not numbers", subtype="FLOAT")
    write("slow.wav", tone(1, 500, frequency=50), "500 Hz", 500)
    write("many.wav", tone(1, 16_000, frequency=0.001, channels=33) + 0.1, "33 channels")
    write("too_late.wav", np.concatenate([np.zeros((31 * 16_000, 1)), whole]), "silent in its first 30 s")
    (folder / "empty.wav").touch()
    reasons["empty.wav"] = "empty"
    (folder / "words.wav").write_text("this is no sound")
    reasons["words.wav"] = "not a sound"
    (folder / "zeros.flac").write_bytes(bytes(1_000))
    reasons["zeros.flac"] = "not a sound"
    os.symlink(folder / "gone.wav", folder / "dangling.wav")
    reasons["dangling.wav"] = "broken link"
    os.mkfifo(folder / "pipe.wav")
    reasons["pipe.wav"] = "not a regular file"
    return reasons


def make_others(folder: Path) -> set[str]:
    """Files that are no sounds and do not claim to be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.txt").write_text("RIFF is how a sound begins, but this is a text")
    (folder / "data.json").write_text("{}")
    (folder / "blank.txt").touch()
    return {"notes.txt", "data.json", "blank.txt"}
