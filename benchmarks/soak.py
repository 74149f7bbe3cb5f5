"""A server under steady load for long: its memory stays, and nobody is given what belongs to another.

    python benchmarks/soak.py [--minutes 60] [--streams 4] [--clients 8] [--models fashion notes phrases racing]

Starts `unistep serve` with live streams (half of worlds, half of sounds) and clients that ask for pictures and sounds
with seeds of their own. Each stream is begun anew after a few chunks with another seed and condition. Whatever comes is
compared with what the model itself makes of that seed, run alone in this process beforehand: pictures by their pixels,
sounds by their samples. Fails, with exit code 1, where one differs, an answer is an error other than "busy", or memory
is more than 5 % above what it was after a fifth of the time. Prints what it found.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hostile import resident, server
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import unistep

SEEDS = 10
"""Seeds of each kind of request; what they give is made beforehand."""
CHUNKS = 8
"""Chunks of a stream before it begins anew."""
TRY_LATER = 1013
"""Code by which a WebSocket is closed that there is no room for."""
FAR = {"image": 2, "sound": 64, "video": 2}
"""How far values may lie apart, of 255 or of 32767: roundings of the last bits, in another batch."""


class Truth:
    """What each request must give, by the model run alone.

    Args:
        models: Names of a model of pictures, of sounds, of streaming sounds, and of a world.
    """

    def __init__(self, models: list[str]) -> None:
        self.names = models
        image, sound, stream, world = (unistep.load(name) for name in models)
        self.images = [self._pixels(image.sample(1, seed=seed)[0]) for seed in range(SEEDS)]
        self.sounds = [self._samples(sound.sample(1, seed=seed)) for seed in range(SEEDS)]
        self.streams = [self._chunks(stream.stream(seed=seed), self._samples) for seed in range(SEEDS)]
        self.worlds = [self._chunks(world.stream(seed=seed), self._frame) for seed in range(SEEDS)]
        # Else one could stand for another. (A few worlds begin alike: they are compared over all of their chunks.)
        whole = [
            self.images,
            self.sounds,
            [np.stack(one) for one in self.streams],
            [np.stack(one) for one in self.worlds],
        ]
        for found, far in zip(whole, (FAR["image"], FAR["sound"], FAR["sound"], FAR["video"]), strict=True):
            for i, one in enumerate(found):
                assert all(np.abs(one - other).max() > 2 * far for other in found[:i]), "two seeds give the same"

    @staticmethod
    def _pixels(x: Any) -> np.ndarray:
        return np.asarray(((x + 1) * 127.5).round().clamp(0, 255)).astype(int).transpose(1, 2, 0)

    @classmethod
    def _frame(cls, x: Any) -> np.ndarray:
        return cls._pixels(x.squeeze())

    @staticmethod
    def _samples(x: Any) -> np.ndarray:
        return np.asarray((x.reshape(-1).clamp(-1, 1) * 32767).round()).astype(int)

    @staticmethod
    def _chunks(stream: Any, read: Any) -> list[np.ndarray]:
        return [read(next(stream)) for _ in range(CHUNKS)]


class Load:
    """The clients of a server.

    Args:
        port: Where it listens.
        truth: What it must give.
        until: When they stop, by :func:`time.monotonic`.
    """

    def __init__(self, port: int, truth: Truth, until: float) -> None:
        self.port, self.truth, self.until = port, truth, until
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def _note(self, kind: str, found: np.ndarray, expected: np.ndarray, what: str) -> None:
        """Count an answer; one that is another's is a failure."""
        same = found.shape == expected.shape and int(np.abs(found - expected).max()) <= FAR[kind]
        with self._lock:
            self.counts[what.split()[0]] += 1
            if not same:
                self.failures.append(f"{what} is not its own")

    def client(self, number: int) -> None:
        """Ask for pictures and sounds, one after the other."""
        random = Random(number)
        while time.monotonic() < self.until:
            seed, image = random.randrange(SEEDS), random.random() < 0.6
            body: dict[str, Any] = {"model": self.truth.names[0 if image else 1], "seed": seed}
            route = "/v1/images/generations" if image else "/v1/audio/generate"
            body |= {} if image else {"response_format": "pcm"}
            headers = {"Content-Type": "application/json"}
            asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{route}", json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(asked, timeout=120) as answer:
                    content = answer.read()
            except urllib.error.HTTPError as error:
                with self._lock:
                    self.counts[f"status-{error.code}"] += 1
                    if error.code not in (503, 504):
                        self.failures.append(f"{route}: {error.code}")
                time.sleep(0.2)
                continue
            if image:
                data = base64.b64decode(json.loads(content)["data"][0]["b64_json"])
                mode = "L" if self.truth.images[0].shape[-1] == 1 else "RGB"
                found = np.asarray(Image.open(io.BytesIO(data)).convert(mode)).astype(int)
                found = found.reshape(self.truth.images[0].shape)
                self._note("image", found, self.truth.images[seed], f"pictures of seed {seed}")
            else:
                found = np.frombuffer(content, "<i2").astype(int)
                self._note("sound", found, self.truth.sounds[seed], f"sounds of seed {seed}")

    def stream(self, number: int) -> None:
        """Watch a world or hear a stream of sound, again and again."""
        random = Random(1000 + number)
        while time.monotonic() < self.until:
            try:
                self._stream(number % 2 == 0, random.randrange(SEEDS), random.randrange(3, CHUNKS))
            except ConnectionClosed as error:
                if error.rcvd is None or error.rcvd.code != TRY_LATER:
                    raise
                with self._lock:  # the stream before it is not forgotten yet
                    self.counts["busy"] += 1
                time.sleep(0.2)

    def _stream(self, video: bool, seed: int, count: int) -> None:
        """The first chunks of one stream."""
        media = "video" if video else "audio"
        expected = (self.truth.worlds if video else self.truth.streams)[seed]
        start = {"type": "session.start", "model": self.truth.names[3 if video else 2], "seed": seed}
        with connect(f"ws://127.0.0.1:{self.port}/v1/realtime/{media}", max_size=None, max_queue=None) as live:
            live.send(json.dumps(start | {"format": "png" if video else "pcm"}))
            while (began := json.loads(live.recv(120)))["type"] != f"{media}.start":
                if began["type"] == "error" and began["error"]["code"] != "overloaded":
                    raise ValueError(began["error"]["message"])
            for chunk in range(count):
                about, content = json.loads(live.recv(120)), live.recv(120)
                assert isinstance(content, bytes)
                if video:
                    found = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
                else:
                    found = np.frombuffer(content, "<i2").astype(int)
                kind = "video" if video else "sound"
                self._note(kind, found, expected[chunk], f"{media}-chunks of seed {seed}, {chunk}")
                with self._lock:
                    self.counts[f"late-{media}-chunks"] += about["late"]

    def run(self, work: Any, number: int) -> None:
        """Work until the time is over; an error is a failure."""
        try:
            work(number)
        except Exception as error:
            with self._lock:
                self.failures.append(f"{work.__name__} {number}: {type(error).__name__}: {error}")


def main() -> int:
    """Start a server, load it, print."""
    from unistep.evaluation.hardware import hardware

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--models", nargs=4, default=["fashion", "notes", "phrases", "racing"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    truth = Truth(options.models)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with server(options.models, log) as (process, port):
            load = Load(port, truth, time.monotonic() + 60 * options.minutes)
            works = [(load.stream, i) for i in range(options.streams)] + [
                (load.client, i) for i in range(options.clients)
            ]
            threads = [threading.Thread(target=load.run, args=work) for work in works]
            for thread in threads:
                thread.start()
            memory = []
            while any(thread.is_alive() for thread in threads):
                memory.append(resident(process.pid))
                time.sleep(min(5.0, 3 * options.minutes))
            for thread in threads:
                thread.join()
        text = log.read_text(errors="replace")
    if "Traceback" in text:
        load.failures.append("a traceback in the log:\n" + text[text.index("Traceback") :][:3000])
    early, late = memory[len(memory) // 5], memory[-1]
    grown = late / early - 1 if early else 0.0
    if grown > 0.05:
        load.failures.append(f"memory grew by {100 * grown:.1f} %")
    found = {"minutes": options.minutes, "streams": options.streams, "clients": options.clients,
             "counts": dict(sorted(load.counts.items())), "memory": {"early": early, "late": late, "most": max(memory)},
             "failures": load.failures[:20], "hardware": str(hardware())}  # fmt: skip
    print(f"{options.minutes:g} minutes, {options.streams} streams, {options.clients} clients, models {options.models}")
    for name, count in found["counts"].items():
        print(f"  {name:<22}{count:8}")
    print(f"  memory {early / 2**20:.0f} MiB after a fifth, {late / 2**20:.0f} MiB at the end ({100 * grown:+.1f} %)")
    print(f"  {found['hardware']}")
    for failure in load.failures[:20]:
        print("FAILED:", failure)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if load.failures else 0


if __name__ == "__main__":
    sys.exit(main())
