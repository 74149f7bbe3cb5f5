"""Requests per second and latency of ``unistep serve`` beside LitServe and a plain FastAPI handler, in one run.

    python benchmarks/serving.py                        # fashion, 1 to 128 clients, ten seconds each
    python benchmarks/serving.py --overload --jitter    # also goodput at twice the capacity, and a stream's jitter

All three serve the same model in the same process layout (one thread of the network, fp32, PNG in base 64) and are
asked by the same clients: plain sockets in one process of their own (`asking.py`), with connections that are kept. They
take turns, forth and back, so that what else the machine does falls on all of them. LitServe is set as its
documentation proposes: batches of up to 32, 5 ms of waiting. Needs ``litserve`` for its row.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

from asking import Seen, closed_loop, open_loop

from unistep.evaluation.hardware import hardware

try:
    from litserve import LitAPI
except ImportError:
    LitAPI = object

PATHS = {"unistep": "/v1/images/generations", "litserve": "/predict", "fastapi": "/predict"}
WITHIN = 1.0
"""Seconds that an answer may take where servers are asked for too much."""
CLIENTS = 24
"""Clients that ask for as much as a server answers at most."""
TURNS = 4
"""Turns of as many as it answers and of too many."""
READY = {"unistep": "/readyz", "litserve": "/health", "fastapi": "/health"}


def serve(kind: str, model: str, port: int, backend: str, timeout: float) -> None:
    """Be one of the servers."""
    import torch

    if kind == "unistep":
        from unistep.cli.main import main

        words = ["serve", model, "racing", "--port", str(port), "--log", "none", "--threads", "1"]
        raise SystemExit(main([*words, "--backend", backend, "--timeout", str(timeout), "--queue", "1000"]))
    torch.set_num_threads(1)
    import unistep

    if kind == "fastapi":
        import uvicorn
        from fastapi import FastAPI

        generator = unistep.load(model)
        app = FastAPI()

        @app.post("/predict")
        def predict(body: dict[str, Any]) -> dict[str, Any]:
            torch.set_num_threads(1)
            x = generator.sample(1, seed=body["seed"])
            return {"b64_json": base64.b64encode(generator.encode(x, "png")).decode()}

        @app.get("/health")
        def health() -> dict[str, str]:
            return {"status": "ok"}

        uvicorn.run(app, port=port, log_level="error")
        return
    import litserve

    api = API(max_batch_size=32, batch_timeout=0.005)
    api.model = model
    server = litserve.LitServer(api, accelerator="cpu", timeout=timeout)
    server.run(port=port, generate_client_file=False, log_level="error")


class API(LitAPI):  # at the top of a module, since LitServe starts processes that look for it there
    """The model as LitServe's documentation proposes it."""

    model = "fashion"

    def setup(self, device: str) -> None:
        """Load the model."""
        import torch

        import unistep

        del device
        torch.set_num_threads(1)
        self.generator = unistep.load(self.model)

    def decode_request(self, request):  # noqa: ANN001, ANN201 - LitServe would ask FastAPI to check a type
        """The seed."""
        return request["seed"]

    def predict(self, seeds: list[int]) -> list[Any]:
        """A batch."""
        return list(self.generator.sample(seed=seeds).split(1))

    def encode_response(self, x: Any) -> dict[str, Any]:
        """A picture."""
        return {"b64_json": base64.b64encode(self.generator.encode(x, "png")).decode()}


class Server:
    """A server in a process of its own."""

    def __init__(self, kind: str, model: str, backend: str, timeout: float = 30.0) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        words = ["--server", kind, "--model", model, "--port", str(self.port), "--backend", backend]
        words += ["--timeout", str(timeout)]
        self.kind, self.path = kind, PATHS[kind]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *words], stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.body: dict[str, Any] = {"model": model} if kind == "unistep" else {}
        asyncio.run(self._ready())

    async def _ready(self) -> None:
        for _ in range(600):
            await asyncio.sleep(0.2)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(
                    f"GET {READY[self.kind]} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
                )
                if b" 200 " in await reader.readline():
                    return
            except OSError:
                continue
        raise SystemExit(f"{self.kind} was not ready within two minutes")

    def stop(self) -> None:
        """Stop it and its workers."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def throughput(options: argparse.Namespace) -> None:
    """Every server under every number of clients, forth and back."""
    found: dict[tuple[str, int], Seen] = {}
    for kind in (*options.servers, *reversed(options.servers)):
        server = Server(kind, options.model, options.backend)
        asyncio.run(closed_loop(server.port, server.path, server.body, 4, 2.0))
        for clients in options.clients:
            seen = asyncio.run(closed_loop(server.port, server.path, server.body, clients, options.seconds / 2))
            found.setdefault((kind, clients), Seen()).add(seen)
        server.stop()
    print("| server | clients | requests/s | p50 ms | p95 ms | p99 ms | answers |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for (kind, clients), seen in sorted(found.items(), key=lambda one: (one[0][1], options.servers.index(one[0][0]))):
        figures = " | ".join(f"{seen.quantile(share):.1f}" for share in (0.5, 0.95, 0.99))
        print(f"| {kind} | {clients} | {len(seen.seconds) / seen.took:.1f} | {figures} | {dict(seen.statuses)} |")


def overload(options: argparse.Namespace) -> None:
    """Goodput at 0.8 times and twice what each server answers at most, with a second for each answer.

    How many it answers at most, of clients that wait for their answers, is measured anew before each of several turns.
    All answers of that are counted, and of the others those in time.
    """
    print(f"\nWith {WITHIN:g} s for each answer, of clients that ask at a rate, whatever became of those before:\n")
    print("| server | most/s | asked/s | goodput/s | of the most | p95 ms | late | others | clients' core |")
    print("|---|---:|---:|---:|---:|---:|---:|---|---:|")
    for kind in options.servers:
        server = Server(kind, options.model, options.backend, timeout=WITHIN)
        ask = (server.port, server.path, server.body)
        asyncio.run(closed_loop(*ask, 8, 2.0))
        for factor in (0.8, 2.0):
            most, asked, rates = Seen(), Seen(), 0.0
            for _ in range(TURNS):
                seen = asyncio.run(closed_loop(*ask, CLIENTS, options.seconds / TURNS))
                rate = factor * len(seen.seconds) / seen.took
                most.add(seen)
                asked.add(asyncio.run(open_loop(*ask, rate, options.seconds / TURNS)))
                rates += rate / TURNS
            good = sum(seconds <= WITHIN for seconds in asked.seconds) / asked.took
            best = len(most.seconds) / most.took
            late = sum(seconds > WITHIN for seconds in asked.seconds)
            others = {status: count for status, count in sorted(asked.statuses.items()) if status != 200}
            figures = f"{best:.1f} | {rates:.0f} | {good:.1f} | {good / best:.2f} | {asked.quantile(0.95):.0f}"
            print(f"| {kind} | {figures} | {late} | {others} | {asked.cpu / asked.took:.2f} |", flush=True)
        server.stop()


async def _stream(port: int, seconds: float) -> list[float]:
    import websockets

    times: list[float] = []
    async with websockets.connect(f"ws://127.0.0.1:{port}/v1/realtime/video") as socket:
        await socket.send(json.dumps({"type": "session.start", "model": "racing", "seed": 0}))
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if isinstance(await socket.recv(), bytes):
                times.append(time.perf_counter())
    return [1e3 * (b - a) for a, b in pairwise(times[5:])]


def jitter(options: argparse.Namespace) -> None:
    """Times between the frames of a live world, alone and while clients ask for pictures."""

    async def both(server: Server, clients: int) -> tuple[list[float], Seen]:
        asking = closed_loop(server.port, server.path, server.body, clients, options.seconds)
        return await asyncio.gather(_stream(server.port, options.seconds), asking)

    server = Server("unistep", options.model, options.backend)
    print("\n| clients beside the stream | frame p50 ms | p95 ms | p99 ms | pictures/s |\n|---:|---:|---:|---:|---:|")
    for clients in (0, 2, 8):
        gaps, seen = asyncio.run(both(server, clients))
        gaps.sort()
        figures = " | ".join(f"{gaps[round(share * (len(gaps) - 1))]:.1f}" for share in (0.5, 0.95, 0.99))
        print(f"| {clients} | {figures} | {len(seen.seconds) / max(seen.took, 1e-9):.1f} |", flush=True)
    server.stop()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--server", choices=list(PATHS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="fashion")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--servers", nargs="+", choices=list(PATHS), default=list(PATHS))
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--overload", action="store_true")
    parser.add_argument("--jitter", action="store_true")
    options = parser.parse_args()
    if options.server:
        serve(options.server, options.model, options.port, options.backend, options.timeout)
        return
    print(f"{hardware('cpu')}; {options.model}, {options.backend}; {time.strftime('%Y-%m-%d')}\n", flush=True)
    if options.clients:
        throughput(options)
    if options.overload:
        overload(options)
    if options.jitter:
        jitter(options)


if __name__ == "__main__":
    main()
