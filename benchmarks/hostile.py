"""Ten thousand requests that no honest client sends, against a server of this machine.

    python benchmarks/hostile.py [--requests 10000] [--seed 0] [--workers 8] [--models fashion notes phrases racing]

Starts `unistep serve`, sends what `hostile_requests.py` makes (values of wrong types and sizes, broken JSON and forms,
pictures that are bombs, odd HTTP and paths, clients that leave or are slow, broken WebSocket frames) from several
threads, and asks something honest after each fifty. Prints how often each answer came. Fails, with exit code 1, on

- an answer of 500, or a traceback in the log,
- a connection that hangs: no answer and no end within two minutes,
- an honest request without the right answer,
- memory that grows: more than a tenth and 64 MiB between a fifth of the requests and the end.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hostile_parts import Attack, Target
from hostile_requests import ATTACKS

PATIENCE = 120.0
"""Seconds after which a connection hangs."""
EVERY = 50
"""Hostile requests for each honest one."""


@dataclass
class Report:
    """What came of it."""

    answers: dict[str, Counter[str]] = field(default_factory=dict)
    """How often each answer came, by kind of request."""
    failures: list[str] = field(default_factory=list)
    """What should not have happened."""
    honest: int = 0
    """Honest requests that were answered rightly."""
    memory: list[int] = field(default_factory=list)
    """Bytes of the server's memory after each honest one."""


def send(port: int, attack: Attack) -> str:
    """Send a request; returns the status of the answer, or how the connection ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        found, upgraded = b"", False
        try:
            for part in attack.parts:
                connection.sendall(part)
                time.sleep(attack.pause)
            if attack.leaves:
                if attack.leaves == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return f"left ({attack.leaves})"
            end = time.monotonic() + PATIENCE
            while True:
                part = connection.recv(1 << 16)
                upgraded = upgraded or found.startswith(b"HTTP/1.1 101")
                if not part or (upgraded and time.monotonic() > end - PATIENCE + 2):  # a stream goes on for ever
                    break
                found = (found + part)[:4096]
                if time.monotonic() > end:
                    return "hangs"
        except TimeoutError:
            return "hangs"
        except OSError:
            pass  # the server closed while something was sent; what it said before is read below
        with contextlib.suppress(OSError):
            connection.settimeout(1.0)
            found = found or connection.recv(4096)
    words = found.split(b" ", 2)
    return words[1].decode("latin-1")[:3] if found.startswith(b"HTTP/") and len(words) > 1 else "closed"


def ask(port: int, body: dict[str, Any]) -> Any:
    """An honest request for a picture; its values."""
    import numpy as np
    from PIL import Image

    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/images/generations",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        content = base64.b64decode(json.load(answer)["data"][0]["b64_json"])
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def target_of(port: int) -> Target:
    """What a server has."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=PATIENCE) as answer:
        models = {one["id"]: one["unistep"] for one in json.load(answer)["data"]}

    def first(media: str, streams: bool) -> str:
        return next(
            (name for name, one in models.items() if (one["modality"], one["streams"]) == (media, streams)), "x"
        )

    return Target(first("image", False), first("audio", False), first("audio", True), first("video", True))


def resident(pid: int) -> int:
    """Bytes of memory of a process, 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def assault(port: int, *, requests: int, seed: int = 0, workers: int = 8, pid: int = 0) -> Report:
    """Send hostile requests, and honest ones between them.

    Args:
        port: Where the server listens.
        requests: How many.
        seed: Of what is sent: request ``i`` is the same whoever sends it.
        workers: Threads that send.
        pid: Process of the server, whose memory is watched.
    """
    target, report, lock = target_of(port), Report(), threading.Lock()
    numbers = iter(range(requests))
    kinds, weights = zip(*ATTACKS, strict=True)
    body = {"model": target.image, "seed": 7}
    right = ask(port, body)

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            random = Random(1_000_003 * seed + number)
            kind = random.choices(kinds, weights)[0]
            try:
                status = send(port, kind(random, target))
                wrong = status in ("hangs", "500")
            except Exception as error:
                status, wrong = f"{type(error).__name__}: {error}", True
            with lock:
                report.answers.setdefault(kind.__name__, Counter())[status] += 1
                if wrong:
                    report.failures.append(f"request {number} ({kind.__name__}): {status}")
            if number % EVERY == EVERY - 1:
                honest(number)

    def honest(number: int) -> None:
        try:
            for _ in range(100):
                try:
                    far = abs(ask(port, body) - right).max()
                    break
                except urllib.error.HTTPError as error:
                    if error.code != 503:
                        raise
                    time.sleep(float(error.headers["Retry-After"]))
            else:
                raise TimeoutError("never anything but 503")
            failure = "" if far <= 1 else f"differs by {far}"
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        with lock:
            report.honest += not failure
            report.memory.append(resident(pid) if pid else 0)
            if failure:
                report.failures.append(f"an honest request after {number}: {failure}")

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    honest(requests)
    return report


@contextlib.contextmanager
def server(models: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`unistep serve` with its log in a file."""
    command = [sys.executable, "-m", "unistep", "serve", *models, "--port", "0", "--threads", "1", "--backend", "eager"]
    with log.open("w") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split("/studio")[0].rsplit(":", 1)[1])
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
                    break
                time.sleep(0.2)
            yield process, port
        finally:
            process.terminate()
            process.wait(60)


def main() -> int:
    """Start a server, attack it, print."""
    from unistep.evaluation.hardware import hardware

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--models", nargs="+", default=["fashion", "notes", "phrases", "racing"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with server(options.models, log) as (process, port):
            report = assault(
                port, requests=options.requests, seed=options.seed, workers=options.workers, pid=process.pid
            )
        text = log.read_text(errors="replace")
    if "Traceback" in text:
        report.failures.append("a traceback in the log:\n" + text[text.index("Traceback") :][:3000])
    early, late = report.memory[len(report.memory) // 5], report.memory[-1]
    if late > 1.1 * early + 2**26:
        report.failures.append(f"memory grew from {early / 2**20:.0f} to {late / 2**20:.0f} MiB")
    total: Counter[str] = Counter()
    for kind, answers in sorted(report.answers.items()):
        total += answers
        print(f"{kind:<14}{sum(answers.values()):6}  ", ", ".join(f"{n} x {s}" for s, n in answers.most_common()))
    print(f"{'all':<14}{total.total():6}  ", ", ".join(f"{n} x {s}" for s, n in total.most_common()))
    print(f"{report.honest} honest requests were answered; {time.monotonic() - begun:.0f} s; "
          f"memory {early / 2**20:.0f} MiB after a fifth, {late / 2**20:.0f} MiB at the end")  # fmt: skip
    print(hardware())
    for failure in report.failures[:20]:
        print("FAILED:", failure)
    if options.json:
        found = {"answers": {k: dict(v) for k, v in report.answers.items()}, "failures": report.failures}
        more = {"honest": report.honest, "memory": [early, late], "hardware": str(hardware())}
        options.json.write_text(json.dumps(found | more, indent=1) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
