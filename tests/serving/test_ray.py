"""The server on a real local Ray: requests, streams and videos, and a replica that is killed under load."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx2", reason="httpx2 is missing: pip install httpx2")
pytest.importorskip("fastapi", reason="the server is missing: pip install 'unistep[serve]'")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("ray.serve", reason="Ray Serve is missing: pip install 'ray[serve]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("ray") / "log"
    words = ["serve", "fashion", "racing", "--ray", "--replicas", "2", "--min-replicas", "2", "--port", str(port)]
    words += ["--backend", "eager"]
    environment = {**os.environ, "RAY_ADDRESS": "", "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS")
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "unistep", *words], stdout=out, stderr=subprocess.STDOUT, env=environment
        )
    try:
        base = f"http://127.0.0.1:{port}"
        _wait(base, process, log)
        yield base
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(480):
        if process.poll() is not None:
            raise AssertionError(log.read_text()[-3000:])
        try:
            if httpx.get(f"{base}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def _replicas() -> list[int]:
    """Processes of replicas, by their name."""
    found = subprocess.run(["pgrep", "-f", "ray::ServeReplica:unistep"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_a_video_is_seen_by_every_replica(server: str) -> None:
    body = {"model": "racing", "seconds": 0.2, "seed": 1, "actions": ["gas"]}
    name = httpx.post(f"{server}/v1/videos", json=body, timeout=60).json()["id"]
    for _ in range(200):
        found = httpx.get(f"{server}/v1/videos/{name}", timeout=60)
        assert found.status_code == 200
        if found.json()["status"] == "completed":
            break
        time.sleep(0.1)
    files = [httpx.get(f"{server}/v1/videos/{name}/content", timeout=60) for _ in range(6)]
    assert {file.status_code for file in files} == {200}
    assert httpx.delete(f"{server}/v1/videos/{name}", timeout=60).status_code == 200
    after = {httpx.get(f"{server}/v1/videos/{name}", timeout=60).status_code for _ in range(6)}
    assert after == {404}  # also where it was made


def test_a_stream_stays_with_its_replica(server: str) -> None:
    connect = pytest.importorskip("websockets.sync.client", reason="websockets is missing").connect
    with connect(server.replace("http", "ws") + "/v1/realtime/video") as socket:
        socket.send(json.dumps({"type": "session.start", "model": "racing", "seed": 3}))
        assert json.loads(socket.recv(30))["type"] == "video.start"
        numbers = []
        while len(numbers) < 12:
            message = socket.recv(30)
            if isinstance(message, str):
                numbers.append(json.loads(message)["sequence"])
        assert numbers == list(range(12))


def test_a_replica_that_is_killed_takes_with_it_what_it_computed_and_nothing_else(server: str) -> None:
    clients, seconds, answers, stop = 4, 12.0, [], threading.Event()

    def ask(client: int) -> None:
        with httpx.Client(base_url=server, timeout=60) as session:
            number = 0
            while not stop.is_set():
                body = {"model": "fashion", "seed": 1000 * client + number, "condition": {"label": 1}}
                try:
                    status = session.post("/v1/images/generations", json=body).status_code
                except httpx.HTTPError:
                    status = 0
                answers.append((time.monotonic(), status))
                number += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)
    before = _replicas()
    killed = time.monotonic()
    os.kill(before[0], signal.SIGKILL)
    time.sleep(2 * seconds / 3)
    stop.set()
    for thread in threads:
        thread.join()
    failed = [status for _, status in answers if status != 200]
    after = [status for at, status in answers if at > killed + 5.0]
    assert len(before) == 2
    assert len(failed) <= clients  # what the replica was computing: one request of each client at most
    assert after
    assert set(after) == {200}
