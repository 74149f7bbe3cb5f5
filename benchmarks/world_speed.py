"""How fast the frames of a world are: ``world.py`` prints it."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unistep.core.action_fields import ActionField
from unistep.core.values import Action
from unistep.generation.generator import Generator
from unistep.generation.keys import Keys
from unistep.generation.pacing import quantile
from unistep.generation.play import ModelWorld, RealTimePlay, Screen
from unistep.generation.session import StreamState

LIMIT = 1 / 30
"""Seconds that a frame may take."""
WARM = 10
"""Frames that are made before time is taken."""


def pictures(stored: Tensor) -> np.ndarray:
    """Clips of one frame as uint8 ``[b, h, w, 3]``."""
    return np.ascontiguousarray(stored[:, :, 0].permute(0, 2, 3, 1).numpy())


class Frames:
    """Makes frames of some streams end to end.

    Args:
        model: The world.
        name: Its field of actions.
        spec: Its actions.
        streams: How many.
        steps: Sampling steps.
    """

    def __init__(self, model: Generator, name: str, spec: ActionField, streams: int, steps: int | None) -> None:
        self._session, self._modality, self._name = model.session(steps=steps), model.config.chunk, name
        self._state: StreamState = self._session.start(range(streams))
        self._actions = Action(torch.tensor(spec.high).expand(streams, -1) / 2)
        self.network: list[float] = []
        """Seconds of each step of the session."""
        self.png: list[float] = []
        """Seconds of rounding and of encoding as PNG."""
        self.jpeg: list[float] = []
        """Seconds of rounding and of encoding as JPEG."""

    def make(self) -> None:
        """The next frame of each stream."""
        begin = time.perf_counter()
        self._state, signals = self._session.step(self._state, {self._name: self._actions})
        made = time.perf_counter()
        for frame in pictures(self._modality.to_stored(signals)):
            encode(frame, "PNG")
        written = time.perf_counter()
        for frame in pictures(self._modality.to_stored(signals)):
            encode(frame, "JPEG")
        self.network.append(made - begin)
        self.png.append(written - made)
        self.jpeg.append(time.perf_counter() - written)

    def forget(self) -> None:
        """Take no notice of what has been made so far."""
        for times in (self.network, self.png, self.jpeg):
            times.clear()

    def whole(self, encoder: str) -> list[float]:
        """Seconds of each frame with an encoder."""
        return [a + b for a, b in zip(self.network, getattr(self, encoder), strict=True)]


def encode(frame: np.ndarray, kind: str) -> bytes:
    """A frame as a server sends it."""
    content = io.BytesIO()
    fast = {"compress_level": 1} if kind == "PNG" else {"quality": 90}
    Image.fromarray(frame).save(content, kind, **fast)
    return content.getvalue()


def real_time(model: Generator, name: str, spec: ActionField, frames: int, steps: int | None) -> dict[str, float]:
    """Times of frames of one stream, and of four in one batch."""
    one, four = (Frames(model, name, spec, streams, steps) for streams in (1, 4))
    for number in range(WARM + frames):
        if number == WARM:
            one.forget()
            four.forget()
        one.make()
        four.make()
    found: dict[str, float] = {"network p50, ms": 1e3 * quantile(one.network, 0.5)}
    for encoder in ("png", "jpeg"):
        whole = one.whole(encoder)
        found |= {f"{encoder} alone p50, ms": 1e3 * quantile(getattr(one, encoder), 0.5)}
        found |= {f"with {encoder} p{share}, ms": 1e3 * quantile(whole, share / 100) for share in (50, 95, 99)}
        found |= {
            f"with {encoder}, fps at p95": 1 / quantile(whole, 0.95),
            f"with {encoder}, misses at 30 fps": sum(took > LIMIT for took in whole),
            f"with {encoder}, four streams over one": quantile(four.whole(encoder), 0.5) / quantile(whole, 0.5),
        }
    return found


class RandomKeys(Screen):
    """A screen on which keys go down and up at random moments, and each frame is encoded.

    Args:
        spec: The actions.
        frames: Frames after which the player quits.
        seconds: From one key to the next, on average.
    """

    def __init__(self, spec: ActionField, frames: int, seconds: float) -> None:
        super().__init__(Keys(spec))
        self.keys.releases = True
        self._left, self._seconds, self._over = frames, seconds, threading.Event()
        self._hand = threading.Thread(target=self._press, daemon=True)
        self._hand.start()

    def _press(self) -> None:
        random, down = np.random.default_rng(0), False
        while not self._over.wait(self._seconds * (0.5 + random.random())):
            (self.keys.release if down else self.keys.press)("left")
            down = not down

    def wait(self, seconds: float) -> None:
        """Let the time go by; another thread presses the keys."""
        time.sleep(seconds)

    def show(self, picture: np.ndarray, line: str) -> None:
        """Encode the frame."""
        del line
        encode(picture, "PNG")
        self._left -= 1
        if self._left == 0:
            self._over.set()
            self._hand.join()
            self.keys.press("q")


def latency(model: Generator, spec: ActionField, fps: float, frames: int, steps: int | None) -> dict[str, float]:
    """From a key to the frame that shows it."""
    screen = RandomKeys(spec, frames, seconds=3 / fps)
    shown: Any = lambda frame: pictures(model.config.chunk.to_stored(frame)[None])  # noqa: E731
    play = RealTimePlay(ModelWorld(model, steps=steps), screen, seconds=1 / fps, pictures=shown)
    play.run()
    return {
        f"at {fps:g} fps, frames": play.frames,
        f"at {fps:g} fps, deadlines missed": play.missed,
        "input to frame p50, ms": 1e3 * play.latency(0.5),
        "input to frame p95, ms": 1e3 * play.latency(0.95),
    }


def memory(
    model: Generator, name: str, spec: ActionField, fps: float, frames: int, steps: int | None
) -> dict[str, Any]:
    """Memory of the process over a long play."""
    play, early = Frames(model, name, spec, 1, steps), 0.0
    for number in range(frames):
        play.make()
        if number % 1000 == 999:
            play.forget()
            say(f"frame {number + 1} of {frames} for memory")
        if number == min(round(60 * fps), frames // 2):
            early = resident()
    say("")
    return {
        "memory over, frames": frames,
        "memory after a minute, MiB": early,
        "memory at the end, MiB": resident(),
    }


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def say(text: str) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="" if text else "\r", file=sys.stderr, flush=True)
