"""Sounds over HTTP: whole, in chunks, and as notes that are said one after the other."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soundfile
import torch

import unistep
from running_server import held, limits, running, until
from unistep.provenance import read_content
from unistep.serving.settings import Settings

ROUTE, SPEECH = "/v1/audio/generate", "/v1/audio/speech"


def samples(content: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(content), dtype="int16")[0].astype(int)


def near(a: np.ndarray, signal: torch.Tensor) -> bool:
    """Whether 16-bit samples are those of a signal, but for a rounding of the last bits."""
    expected = np.asarray((signal.reshape(-1).clamp(-1, 1) * 32767).round()).astype(int)
    return a.shape == expected.shape and int(np.abs(a - expected).max()) <= 32


def test_a_note_is_the_models_own(server, models):
    body = {"model": "notes", "condition": {"instrument": "flute", "pitch": "C4", "velocity": 100}, "seed": 6}
    answer = server.client.post(ROUTE, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert (answer.headers["x-seed"], answer.headers["x-sample-rate"]) == ("6", "8000")
    assert answer.headers["x-channels"] == "1"
    signal = unistep.load(models[1]).sample(1, seed=6, instrument="flute", pitch=60, velocity=100)
    assert near(samples(answer.content), signal)
    mark = read_content(answer.content).mark
    assert mark is not None
    assert (mark.model, mark.seed, mark.condition["pitch"]) == ("notes", "6", "C4")


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "pcm"])
def test_formats_and_lengths(server, format):
    body = {"model": "notes", "seed": 1, "seconds": 0.125, "response_format": format}
    answer = server.client.post(ROUTE, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"audio/{format}"
    if format == "pcm":
        assert len(answer.content) == 2 * 1000
    else:
        assert len(samples(answer.content)) == 1000
        assert read_content(answer.content).generated


def test_an_endless_sound_is_the_same_whole_and_in_chunks(server, models):
    body = {"model": "phrases", "seed": 4, "seconds": 0.3, "condition": {"instrument": "harp"}}
    whole = server.client.post(ROUTE, json=body)
    streamed = server.client.post(ROUTE, json={**body, "stream": True})
    pcm = server.client.post(ROUTE, json={**body, "stream": True, "response_format": "pcm"})
    assert [one.status_code for one in (whole, streamed, pcm)] == [200] * 3
    assert [one.headers["x-channels"] for one in (whole, streamed, pcm)] == ["1"] * 3
    chunks = unistep.load(models[2]).stream(seed=4, instrument="harp")
    signal = torch.cat([next(chunks) for _ in range(5)], dim=-1)  # 0.3 s is 4.7 chunks
    assert near(samples(whole.content), signal)
    assert near(np.frombuffer(pcm.content, "<i2").astype(int), signal)
    with wave.open(io.BytesIO(streamed.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 5 * 512)
    assert near(samples(streamed.content), signal)
    assert read_content(whole.content).generated
    assert server.service.engine.streams == 0


def test_notes_are_said_one_after_the_other(server, models):
    """Each chunk has its own note, however soon the network goes on to the next."""
    notes = ["C4", "E4", "G4", "C5"] * 3
    body = {"model": "phrases", "input": " ".join(notes), "voice": "flute", "response_format": "pcm", "seed": 2}
    answer = server.client.post(SPEECH, json=body)
    assert answer.status_code == 200, answer.text
    chunks = unistep.load(models[2]).stream(seed=2, instrument=["flute"] * len(notes), pitch=notes)
    assert near(np.frombuffer(answer.content, "<i2").astype(int), torch.cat(list(chunks), dim=-1))


def test_whole_notes_are_joined(server, models):
    body = {"model": "notes", "input": "C4 E4", "voice": "organ", "seed": 2}
    content = server.client.post(SPEECH, json=body).content
    generator = unistep.load(models[1])
    parts = [generator.sample(1, seed=2 + i, instrument="organ", pitch=pitch) for i, pitch in enumerate((60, 64))]
    assert near(samples(content), torch.cat(parts, dim=-1))
    mark = read_content(content).mark
    assert mark is not None
    assert (mark.seed, mark.condition.get("instrument"), "pitch" in mark.condition) == ("2-3", "organ", False)


@pytest.mark.parametrize(
    ("route", "body", "part"),
    [
        (ROUTE, {"model": "notes", "seconds": 0.5}, "0.25 s here"),
        (ROUTE, {"model": "notes", "seconds": 1e-9}, "a sample at least"),
        (ROUTE, {"model": "phrases", "seconds": 61}, "60 s here"),
        (ROUTE, {"model": "phrases", "condition": {"pitch": "H9"}}, "pitch must be"),
        (ROUTE, {"model": "phrases", "condition": {"pitch": "H9"}, "stream": True}, "pitch must be"),
        (ROUTE, {"model": "notes", "condition": {"velocity": 1000}}, "velocity must be"),
        (ROUTE, {"model": "notes", "response_format": "mp3"}, "response_format"),
        (ROUTE, {"model": "fashion"}, "use notes, phrases"),
        (ROUTE, {"volume": 1}, "no field 'volume'"),
        (SPEECH, {"model": "phrases"}, "input"),
        (SPEECH, {"model": "phrases", "input": ""}, "input"),
        (SPEECH, {"model": "phrases", "input": "C4 H9"}, "pitch must be"),
        (SPEECH, {"model": "phrases", "input": "C4", "voice": "alloy"}, "instrument must be"),
        (SPEECH, {"model": "phrases", "input": "C4", "speed": 2}, "speed"),
        (SPEECH, {"model": "phrases", "input": "C4", "instructions": "softly"}, "no instructions"),
        (SPEECH, {"model": "phrases", "input": "C4 " * 1000}, "too long"),
        (SPEECH, {"model": "notes", "input": "C4 C4", "seed": 2**63 - 1025}, None),
    ],
)  # fmt: skip
def test_a_mistake_is_named(server, route, body, part):
    answer = server.client.post(route, json=body)
    if part is None:
        assert answer.status_code == 200, answer.text
        return
    assert answer.status_code == 400, answer.text
    assert part in answer.json()["error"]["message"]
    assert server.service.engine.streams == 0


def test_nothing_cannot_be_said(server):
    answer = server.client.post(SPEECH, json={"model": "notes", "input": " \n"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input"


def test_the_seed_of_whole_notes_is_drawn_once_for_all_of_them(server):
    body = {"model": "notes", "input": "C4 E4", "voice": "organ"}
    first = server.client.post(SPEECH, json=body)
    again = server.client.post(SPEECH, json={**body, "seed": int(first.headers["x-seed"])})
    assert first.content == again.content


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"response_format": "flac"}])
def test_a_sound_in_chunks_begins_in_time_or_not_at_all(models, more):
    with running(Settings(models=models, threads=1, backend="eager", limits=limits(timeout=0.5))) as server:
        release = held(server)
        try:
            late = server.client.post(ROUTE, json={"model": "phrases", "seconds": 0.3, **more})
        finally:
            release()
        assert late.status_code == 504, late.text
        assert late.json()["error"]["code"] == "deadline_exceeded"
        until(lambda: server.service.engine.streams == 0)
        assert not server.app.state.places._taken
