"""A server in a thread, and clients that talk to it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from cli.standins import save_instrument, save_standin, save_stream, save_world
from unistep.serving.api.app import create_app
from unistep.serving.api.listening import server_of
from unistep.serving.jobs import OWN, CallJob
from unistep.serving.service import Service
from unistep.serving.settings import Limits, Settings

GRACE = 60.0
"""Seconds after which a test gives up; nothing is asserted of how long anything takes."""


def save_models(folder: Path) -> tuple[str, ...]:
    """Models of pictures, sounds, endless sounds and a world."""
    save_standin(folder / "fashion", "consistency")
    save_instrument(folder / "notes")
    save_stream(folder / "phrases")
    save_world(folder / "racing")
    return tuple(str(folder / name) for name in ("fashion", "notes", "phrases", "racing"))


class Running:
    """A server that runs.

    Args:
        settings: Models and limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.service = Service(settings)
        self.app = create_app(settings, self.service)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.server = server_of(self.app, settings.limits)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=GRACE)
        assert self.service.ready.wait(GRACE), self.service.failure

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self._listener]))

    def live(self, media: str, query: str = "", **options: Any) -> ClientConnection:
        """A connection to a live stream."""
        address = f"ws://127.0.0.1:{self.port}/v1/realtime/{media}{query}"
        return connect(address, open_timeout=GRACE, close_timeout=GRACE, max_size=None, max_queue=None, **options)

    def metric(self, name: str, **labels: str) -> float:
        """A figure of `/metrics`, 0 where there is none."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0

    def stop(self) -> None:
        """Stop it and wait."""
        self.client.close()
        self.server.should_exit = True
        self._thread.join(GRACE)
        self.service.close()


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """A server for as long as a test needs it."""
    server = Running(settings)
    try:
        yield server
    finally:
        server.stop()


def limits(**wanted: Any) -> Limits:
    """Limits with nothing to wait for at the end."""
    return Limits(**{"drain": 1.0, **wanted})


def until(true: Any) -> None:
    """Wait until something is so."""
    end = time.monotonic() + GRACE
    while not true():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.005)


def held(server: Running) -> Callable[[], None]:
    """Keep a server's network busy until the result is called."""
    served, entered, gate = server.service.pool.get("fashion"), threading.Event(), threading.Event()

    def wait(stop: Callable[[], bool]) -> torch.Tensor:
        del stop
        entered.set()
        assert gate.wait(GRACE)
        return torch.zeros(1)

    job = CallJob(served=served, deadline=float("inf"), client=OWN, what="test", steps=1, items=1, call=wait)
    server.service.engine.submit(job)
    assert entered.wait(GRACE)
    return gate.set


def say(live: ClientConnection, kind: str, **more: Any) -> None:
    """Send a message of a session."""
    live.send(json.dumps({"type": f"session.{kind}", **more}))


def heard(live: ClientConnection) -> dict[str, Any]:
    """The next message, which is JSON."""
    found = live.recv(GRACE)
    assert isinstance(found, str), found[:20]
    return json.loads(found)


def chunk(live: ClientConnection) -> tuple[dict[str, Any], bytes]:
    """The next chunk: what is said of it, and its bytes."""
    while not (about := heard(live))["type"].endswith("chunk_metadata"):
        assert about["type"] != "error", about
    content = live.recv(GRACE)
    assert isinstance(content, bytes)
    assert len(content) == about["bytes"]
    return about, content


def pixels(content: bytes | str) -> np.ndarray:
    """A picture's values; of a text, one in base 64."""
    content = base64.b64decode(content) if isinstance(content, str) else content
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def png(size: tuple[int, int] = (28, 28), mode: str = "L", color: Any = 0) -> bytes:
    """A picture of one colour."""
    content = io.BytesIO()
    Image.new(mode, size, color).save(content, "PNG")
    return content.getvalue()
