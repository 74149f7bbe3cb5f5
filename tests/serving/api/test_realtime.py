"""Live streams over WebSockets: several clients, their inputs, and those that come to nothing."""

from __future__ import annotations

import io
import json
import socket
import threading
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from websockets.exceptions import ConnectionClosed

import unistep
from running_server import GRACE, chunk, heard, limits, pixels, running, say, until
from unistep.core.condition import LabelField
from unistep.serving.jobs import BusyError
from unistep.serving.settings import Settings
from unistep.serving.streams import GAMES


def expected(models, seed: int, actions: list) -> list[np.ndarray]:
    """The frames of a world under known actions, from the model itself."""
    session = unistep.load(models[3]).session()
    state, found = session.start([seed]), []
    for action in actions:
        state, signal = session.step(state, {} if action is None else {"action": action})
        found.append(np.asarray(((signal[0, :, 0] + 1) * 127.5).clamp(0, 255)).transpose(1, 2, 0))
    return found


def closed(live) -> ConnectionClosed:
    """How a connection ends; what comes before is thrown away."""
    try:
        while True:
            live.recv(GRACE)
    except ConnectionClosed as found:
        return found


def test_two_clients_have_streams_of_their_own(server, models):
    with server.live("video") as one, server.live("video") as two:
        for live, seed in ((one, 5), (two, 6)):
            say(live, "start", model="racing", seed=seed, format="png")
            start = heard(live)
            assert start["type"] == "video.start"
            assert (start["seed"], start["width"], start["height"], start["fps"]) == (seed, 16, 16, 25)
        for number in range(4):
            for live, seed in ((one, 5), (two, 6)):
                about, content = chunk(live)
                assert (about["sequence"], about["interaction"]) == (number, 0)
                assert about["pts"] == pytest.approx(0.04 * number)
                assert np.abs(pixels(content) - expected(models, seed, [None] * 4)[number]).max() <= 1.5
        for live in (one, two):
            say(live, "stop")
            while (message := live.recv(GRACE)) is not None:
                if isinstance(message, str) and json.loads(message)["type"] == "session.done":
                    break
            assert closed(live).rcvd.code == 1000
    until(lambda: server.service.engine.streams == 0)


def test_frames_follow_the_newest_input(server, models):
    with server.live("video") as live:
        say(live, "start", seed=1, format="png", condition={"action": "left"})
        heard(live)
        actions, frames, sent = ["left", "right", "right", [0.0, 1.0]], [], 0
        for number in range(40):
            if number in (4, 8, 12):
                sent += 1
                more = ({"keys": ["right"]}, {"keys": ["d"]}, {"condition": {"action": [0.0, 1.0]}})[sent - 1]
                say(live, "interaction", **more)
            about, content = chunk(live)
            assert about["sequence"] == number
            frames.append((about["interaction"], content))
            if about["interaction"] == 3:
                break
        numbers = [number for number, _ in frames]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 3
        played = [torch.tensor(actions[n]) if n == 3 else actions[n] for n in numbers]
        for (_, content), frame in zip(frames, expected(models, 1, played), strict=True):
            assert np.abs(pixels(content) - frame).max() <= 1.5


def test_a_sound_is_the_models_own_and_made_ahead(server, models):
    with server.live("audio") as live:
        say(live, "start", model="phrases", seed=3, condition={"instrument": "harp", "pitch": None})
        start = heard(live)
        assert (start["type"], start["format"], start["sample_rate"], start["channels"]) == (
            "audio.start",
            "pcm",
            8000,
            1,
        )
        assert start["chunk_seconds"] == pytest.approx(0.064)
        contents = [chunk(live)[1] for _ in range(4)]
        say(live, "ping", t="now")
        while (about := live.recv(GRACE)) is not None:
            if isinstance(about, str) and json.loads(about)["type"] == "session.pong":
                assert json.loads(about)["t"] == "now"
                break
    chunks = unistep.load(models[2]).stream(seed=3, instrument="harp")
    for content in contents:
        signal = np.asarray((next(chunks).reshape(-1).clamp(-1, 1) * 32767).round())
        assert np.abs(np.frombuffer(content, "<i2") - signal).max() <= 32


@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_formats_of_frames(server, format):
    with server.live("video") as live:
        say(live, "start", format=format, fps=100, num_inference_steps=2)
        assert heard(live)["fps"] == 100
        about, content = chunk(live)
        assert about["gen_ms"] > 0
        assert Image.open(io.BytesIO(content)).format == format.upper()


START = {"type": "session.start"}


@pytest.mark.parametrize(
    ("media", "messages", "part"),
    [
        ("video", ["{"], "JSON object with a type"),
        ("video", ["[]"], "JSON object with a type"),
        ("video", ['{"type": []}'], "JSON object with a type"),
        ("video", ["[" * 90_000], "JSON object with a type"),
        ("video", [b"bytes"], "messages are text"),
        ("video", [{"type": "session.stop"}], "session.start"),
        ("video", [{"type": "session.start", "speed": 1}], "speed"),
        ("video", [{"type": "session.start", "fps": 0}], "fps"),
        ("video", [{"type": "session.start", "fps": 1e-300}], "fps"),
        ("video", [{"type": "session.start", "seed": -1}], "seed"),
        ("video", [{"type": "session.start", "model": "phrases"}], "use racing"),
        ("video", [{"type": "session.start", "model": "fashion"}], "use racing"),
        ("video", [{"type": "session.start", "model": "nothing"}], "no model 'nothing'"),
        ("video", [{"type": "session.start", "format": "pcm"}], "streams jpeg"),
        ("video", [{"type": "session.start", "condition": {"action": "fly"}}], "action must be"),
        ("video", [{"type": "session.start", "condition": {"nothing": None}}], "takes no 'nothing'"),
        ("video", [{"type": "session.start", "num_inference_steps": 65}], "at most 64"),
        ("video", [START, {"type": "session.start"}], "begun already"),
        ("video", [START, {"type": "session.interaction", "keys": ["F13"]}], "no key"),
        ("video", [START, {"type": "session.interaction", "condition": {"x": None}}], "takes no 'x'"),
        ("video", [START, {"type": "session.interaction", "condition": {"action": [9, 9]}}], "must be"),
        ("audio", [{"type": "session.start", "model": "notes"}], "use phrases"),
        ("audio", [{"type": "session.start", "fps": 5}], "one rate"),
        ("audio", [START, {"type": "session.interaction", "keys": ["left"]}], "takes no keys"),
        ("audio", [{"type": "session.start", "guidance_scale": 3}], "one-step"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_and_ends_the_session(server, media, messages, part):
    with server.live(media) as live:
        for message in messages:
            live.send(json.dumps(message) if isinstance(message, dict) else message)
        for _ in range(100):
            message = live.recv(GRACE)
            if isinstance(message, str) and json.loads(message)["type"] == "error":
                break
        error = json.loads(message)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert part in error["message"]
        assert closed(live).rcvd.code == 1008
    until(lambda: server.service.engine.streams == 0)


def test_a_message_that_is_too_large_ends_the_connection(server):
    with server.live("video") as live:
        live.send("x" * 300_000)
        assert closed(live).rcvd.code == 1009
    with server.live("video") as live:
        live.send('"' + "x" * 150_000 + '"')
        assert "100,000 characters" in heard(live)["error"]["message"]


def test_a_client_that_goes_without_a_word_leaves_nothing(server):
    with ExitStack() as stack:
        lives = [stack.enter_context(server.live("video")) for _ in range(3)]
        for live in lives:
            say(live, "start")
            chunk(live)
        assert server.service.engine.streams == 3
        for live in lives:
            live.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: server.service.engine.streams == 0)
    until(lambda: not server.app.state.places._taken)


def test_there_are_so_many_streams(models):
    settings = Settings(models=models, threads=1, backend="eager", limits=limits(streams=3, streams_per_client=2))
    with running(settings) as server, ExitStack() as stack:
        lives = [stack.enter_context(server.live(media)) for media in ("video", "audio")]
        for live in lives:
            say(live, "start")
            chunk(live)
        with server.live("video") as refused:
            first = heard(refused)
            assert (first["type"], first["queue_depth"]) == ("queue_status", 2)
            assert heard(refused)["error"]["type"] == "overloaded_error"
            assert closed(refused).rcvd.code == 1013
        sound = {"model": "phrases", "seconds": 0.1}
        busy = server.client.post("/v1/audio/generate", json=sound)
        assert busy.status_code == 503
        assert int(busy.headers["retry-after"]) >= 1
        lives[0].close()
        until(lambda: server.service.engine.streams == 1)
        until(lambda: server.app.state.places._taken.total() == 1)
        assert server.client.post("/v1/audio/generate", json=sound).status_code == 200
        assert server.client.post("/v1/videos/sync", json={"seconds": 0.04}).status_code == 200


def test_a_client_is_told_when_the_server_is_busy_or_stops(server, monkeypatch):
    def busy(stream):
        raise BusyError("the server is stopping", 1.0)

    monkeypatch.setattr(server.service.engine, "open", busy)
    with server.live("video") as live:
        say(live, "start")
        assert heard(live)["error"]["type"] == "overloaded_error"
        assert closed(live).rcvd.code == 1013


def test_a_client_that_says_nothing_is_sent_away(models):
    settings = Settings(models=models, threads=1, backend="eager", limits=limits(idle=0.2, body_seconds=0.2))
    with running(settings) as server:
        with server.live("video") as live:  # never begins
            assert heard(live)["error"]["code"] == "idle"
        with server.live("video") as live:
            say(live, "start")
            heard(live)
            assert closed(live).rcvd.code == 1008


class Grey:
    """A game of grey frames, whose level counts its steps."""

    def __init__(self) -> None:
        self.steps = 0

    def reset(self) -> torch.Tensor:
        return torch.zeros(3, 1, 16, 16)

    def step(self, action: torch.Tensor) -> torch.Tensor:
        assert action.ndim == 1
        self.steps += 1
        return torch.full((3, 1, 16, 16), -1 + self.steps / 50)


def test_a_world_goes_on_from_its_game_and_beside_it(server, models, monkeypatch):
    monkeypatch.setattr("unistep.serving.streams.open_game", lambda *_, **__: Grey())
    session = unistep.load(models[3]).session()
    state = session.start([4], Grey().reset()[None])
    with server.live("video") as live:
        say(live, "start", model="racing", seed=4, format="png", game="beside")
        assert heard(live)["width"] == 36
        for number in range(3):
            _, content = chunk(live)
            state, signal = session.step(state, {})
            frame = pixels(content)
            left, right = frame[:, :16], frame[:, 20:]
            assert np.abs(left - (number + 1) / 50 * 127.5).max() <= 1.5
            assert (
                np.abs(right - np.asarray((signal[0, :, 0] + 1) * 127.5).clip(0, 255).transpose(1, 2, 0)).max() <= 1.5
            )


def test_a_world_of_another_game_says_so(server):
    with server.live("video") as live:
        say(live, "start", model="racing", game="start")
        assert "racing" in heard(live)["error"]["message"]  # its controls are others, or it is not installed


def test_a_game_begins_while_no_other_is_stepped(server, monkeypatch):
    begun = threading.Event()

    def open_game(*_: object, **__: object) -> Grey:
        begun.set()
        return Grey()

    monkeypatch.setattr("unistep.serving.streams.open_game", open_game)
    with server.live("video") as live:
        with GAMES:
            say(live, "start", model="racing", game="start")
            assert not begun.wait(0.3)
        assert heard(live)["type"] == "video.start"
        assert begun.is_set()


def test_words_of_an_input_are_read_outside_of_the_event_loop(server, monkeypatch):
    """An encoder may have to read them, which takes longer than all else."""
    parse, threads = LabelField.parse, []

    def watched(spec: LabelField, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return parse(spec, *arguments)

    with server.live("audio") as live:
        say(live, "start", model="phrases")
        assert heard(live)["type"] == "audio.start"
        monkeypatch.setattr(LabelField, "parse", watched)
        say(live, "interaction", condition={"instrument": "harp"})
        while chunk(live)[0]["interaction"] == 0:
            pass
    assert {thread.partition("_")[0] for thread in threads} == {"unistep-prepare", "unistep-engine"}
