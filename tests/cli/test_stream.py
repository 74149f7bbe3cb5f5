"""``unistep stream``: samples to a pipe or a file, in real time or as fast as it can, and a clean end."""

from __future__ import annotations

import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import forks
from cli.standins import save_instrument, save_stream
from unistep.generation.pacing import Deadlines
from unistep.hub import load


@pytest.fixture(scope="session")
def phrases(tmp_path_factory) -> Path:
    return save_stream(tmp_path_factory.mktemp("stream") / "phrases")


def test_a_file_is_written_chunk_by_chunk(run, phrases):
    outcome = run("stream --seconds 0.5 --seed 3 --instrument harp -o a.wav", [str(phrases)])
    assert outcome.code == 0, outcome
    assert outcome.out == "written to a.wav\n"
    assert "0.5 s of sound" in outcome.err
    assert "real-time factor" in outcome.err
    assert "deadlines" not in outcome.err  # as fast as it can
    info = soundfile.info("a.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (8_000, 1, 8 * 512, "PCM_16")
    stream = load(phrases).stream(seed=3, instrument="harp")
    wanted = torch.cat([next(stream) for _ in range(8)], dim=-1).numpy()
    assert np.abs(soundfile.read("a.wav")[0] - wanted[0]).max() < 1 / 32_768


def test_conditions_take_turns(run, phrases):
    assert run("stream --seconds 0.25 --instrument piano --pitch C4,64 -o a.flac", [str(phrases)]).code == 0
    stream = load(phrases).stream(instrument="piano", pitch=["C4", "E4", "C4", "E4"])
    wanted = torch.cat(list(stream), dim=-1).numpy()
    assert np.abs(soundfile.read("a.flac")[0] - wanted[0]).max() < 1 / 32_768


def play(phrases: Path, *words: str) -> forks.Command:
    return forks.Command(["stream", str(phrases), *words])


def test_a_pipe_gets_samples_in_real_time(phrases):
    process = play(phrases, "-o", "-", "--seconds", "0.64")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(out) == 10 * 512 * 2
    samples = np.frombuffer(out, "<i2")
    assert samples.std() > 0
    assert b"of 10 deadlines dropped" in err


def test_a_listener_who_leaves_ends_it(phrases):
    process = play(phrases, "--pace", "fast")
    assert len(process.stdout.read(512)) == 512
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    with process.stderr:
        err = process.stderr.read()
    assert b"s of sound" in err
    assert b"Traceback" not in err


def test_samples_that_nobody_can_take_are_one_line(run, phrases, monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        outcome = run("stream --seconds 0.25 --pace fast", [str(phrases)])
        full.buffer.raw.close()  # what is still buffered can go nowhere
    assert outcome.code == 1
    first, second = outcome.err.splitlines()
    assert first.startswith("no sound; ")
    assert "first sound" not in first
    assert second == "unistep: error: standard output: No space left on device"
    monkeypatch.setattr(sys, "stdout", None)
    assert run("stream", [str(phrases)]).err == "unistep: error: standard output is closed: name a file with -o\n"


def test_a_disk_that_is_full_is_named(run, phrases, place):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, hard))
    try:
        outcome = run("stream --seconds 4 -o a.wav", [str(phrases)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome.code == 1
    assert outcome.err.endswith("unistep: error: cannot write a.wav: File too large\n")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_file_is_whole(phrases, number, place):
    process = play(phrases, "--pace", "real-time", "--seconds", "600", "-o", "a.wav")
    while not any(path.stat().st_size > 1000 for path in place.glob(".a.wav*")):  # a chunk is in it
        assert process.returncode is None
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert b"written to" in out
    assert [path.name for path in place.iterdir()] == ["a.wav"]
    assert soundfile.info("a.wav").frames % 512 == 0


def test_an_interruption_before_the_first_chunk_leaves_what_was_there(run, phrases, monkeypatch):
    Path("a.wav").write_bytes(b"older")

    def interrupted(self: Deadlines) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Deadlines, "made", interrupted)
    outcome = run("stream --seconds 0.25 -o a.wav", [str(phrases)])
    assert outcome.code == 130
    assert "written" not in outcome.out
    assert Path("a.wav").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-o a.mp4", "must end with .wav or .flac or .ogg"),
        ("-o a.wav/", "cannot write a.wav/: it is a folder, wanted a file such as out.wav"),
        ("--seconds 0 -o a.wav", "--seconds must be a number above 0 (without it, a pipe never ends), got 0"),
        ("--seconds inf -o a.wav", "--seconds must be a number above 0 (without it, a pipe never ends), got inf"),
        ("--pitch C4,H4 -o a.wav", "pitch must be"),
        ("--pace slow -o a.wav", "--pace must be one of "),
        ("--tempo 3 -o a.wav", "unknown option '--tempo'"),
        ("--steps 0 -o a.wav", "steps must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(run, phrases, place, options, words):
    outcome = run(["stream", str(phrases)], options)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.startswith("unistep: error: ")
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []


def test_a_model_of_sounds_by_themselves_is_refused(run, place, tmp_path):
    outcome = run(["stream", str(save_instrument(tmp_path / "notes"))], "-o a.wav")
    assert outcome.code == 2
    assert "makes samples by themselves, no stream" in outcome.err
    assert list(place.iterdir()) == []


def test_help_names_the_conditions(run, phrases):
    text = run("stream --help", [str(phrases)]).out
    for word in ("--instrument", "--pitch", "take turns", "--pace"):
        assert word in " ".join(text.split()), word


def test_a_stream_is_sampled_and_judged_by_its_first_two_chunks(run, phrases, place):
    assert run("sample -n 3 --instrument piano -o three.wav", [str(phrases)]).code == 0
    assert soundfile.info("three.wav").frames == 3 * 1_024 + 2 * 2_000
    (place / "mine").mkdir()
    soundfile.write("mine/long.wav", np.random.default_rng(0).normal(size=20_000) * 0.1, 8_000)
    outcome = run("evaluate --data folder:mine --features spectrum --num 70 --steps 1 --json a.json", [str(phrases)])
    assert outcome.code == 0, outcome
    assert "of folder:mine" in " ".join(outcome.out.split())


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def ema_update(deadlines: Deadlines, clock: Clock, took: list[float]) -> list[float]:
    """When each chunk was handed on, where making them took so long."""
    handed = []
    for seconds in took:
        clock.now += seconds
        deadlines.made()
        handed.append(clock.now)
        deadlines.handed()
    return handed


def test_chunks_are_handed_on_one_ahead_of_the_player():
    clock = Clock()
    deadlines = Deadlines(1.0, clock=clock, sleep=clock.sleep)
    handed = ema_update(deadlines, clock, [0.25, 0.1, 0.1, 0.1, 0.9])
    assert handed == pytest.approx([0.25, 0.35, 1.25, 2.25, 3.25])  # chunk n plays from 0.25 + n on
    assert deadlines.dropped == 0
    assert deadlines.first == pytest.approx(0.25)
    assert deadlines.factor == pytest.approx(1.45 / 5)
    assert deadlines.took(0.5) == pytest.approx(0.1)
    assert deadlines.took(1.0) == pytest.approx(0.9)


def test_a_late_chunk_is_a_dropped_deadline_and_moves_the_later_ones():
    clock = Clock()
    deadlines = Deadlines(1.0, clock=clock, sleep=clock.sleep)
    handed = ema_update(deadlines, clock, [0.0, 1.5, 0.9, 0.9, 3.0])
    assert handed == pytest.approx([0.0, 1.5, 2.4, 3.3, 6.3])
    assert deadlines.dropped == 2
    assert clock.slept == []
    unpaced = Deadlines(1.0, paced=False, clock=clock, sleep=clock.sleep)
    ema_update(unpaced, clock, [0.0, 1.5, 0.1])
    assert unpaced.dropped == 0
    assert "deadlines" not in str(unpaced)
