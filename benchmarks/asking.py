"""Clients that ask a server over HTTP and cost little themselves, since they share the machine with it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

WARM = 1.0
"""Seconds of an open loop that are not counted: the queue of a server is empty at first."""
PATIENCE = 5.0
"""Seconds after which a client of an open loop leaves."""
RETRY = 1.0
"""Seconds after which a client of a closed loop asks again where it was refused: what the servers' answers say."""
READY = 32
"""Connections that are open before an open loop begins."""


@dataclass
class Seen:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How often each; 0 for connections that ended, and for answers that never came."""
    took: float = 0.0
    """Of the whole."""
    cpu: float = 0.0
    """Seconds of a processor that the clients took."""

    def add(self, other: Seen) -> None:
        """Put what was seen at another time to it."""
        self.seconds += other.seconds
        self.statuses.update(other.statuses)
        self.took += other.took
        self.cpu += other.cpu

    def quantile(self, share: float) -> float:
        """A quantile of the answers' milliseconds."""
        found = sorted(self.seconds)
        return 1e3 * found[round(share * (len(found) - 1))] if found else float("nan")

    def note(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(seconds)


class Connection(asyncio.Protocol):
    """A connection that is kept, with one request at a time."""

    def __init__(self) -> None:
        self._found, self._end = bytearray(), 0
        self._answered: Callable[[int], object] | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to a port of this machine."""
        _, found = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return found

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes, answered: Callable[[int], object]) -> None:
        """Send a request; ``answered`` is called with the status of its answer, 0 where the connection ends first."""
        self._answered = answered
        if self.transport.is_closing():
            self._answer(0)
        else:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read as far as an answer's end, which its length says."""
        self._found += data
        if not self._end:
            head = self._found.find(b"\r\n\r\n")
            if head < 0:
                return
            length = bytes(self._found[:head]).lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._end = head + 4 + int(length)
        if len(self._found) >= self._end:
            status, self._end = int(self._found[9:12]), 0
            self._found.clear()
            self._answer(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request that has no answer yet will have none."""
        del exc
        self._answer(0)

    def _answer(self, status: int) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status)


def request_of(path: str, body: dict[str, Any]) -> bytes:
    """A request as it is sent."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def closed_loop(port: int, path: str, body: dict[str, Any], clients: int, seconds: float) -> Seen:
    """Clients that ask again as soon as they have an answer."""
    seen, stop = Seen(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        loop, count = asyncio.get_running_loop(), 0
        connection = await Connection.open(port)
        while time.perf_counter() < stop:
            begun, answer = time.perf_counter(), loop.create_future()
            connection.ask(request_of(path, {**body, "seed": 100_000 * number + count}), answer.set_result)
            seen.note(status := await answer, time.perf_counter() - begun)
            count += 1
            if status in (429, 503):
                await asyncio.sleep(RETRY)
        connection.transport.close()

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(number) for number in range(clients)))
    seen.took, seen.cpu = time.perf_counter() - begun, time.process_time() - cpu
    return seen


async def open_loop(port: int, path: str, body: dict[str, Any], rate: float, seconds: float) -> Seen:
    """Requests that come at a rate, whatever became of those before; none is asked again.

    Those of the first second are not counted. An answer's time is from when the request was due, so that a client that
    is late itself makes no server look better.
    """
    seen, rng = Seen(), random.Random(0)
    free = [await Connection.open(port) for _ in range(READY)]
    waiting: dict[int, float] = {}
    begun, cpu = time.perf_counter(), time.process_time()

    def ask(number: int, due: float, connection: Connection) -> None:
        def answered(status: int) -> None:
            if waiting.pop(number, None) is not None and due >= begun + WARM:
                seen.note(status, time.perf_counter() - due)
            if status:
                free.append(connection)

        waiting[number] = due
        connection.ask(request_of(path, {**body, "seed": number}), answered)

    async def ask_anew(number: int, due: float) -> None:
        ask(number, due, await Connection.open(port))

    number, due, tasks = 0, begun, set[asyncio.Task[None]]()
    while due < begun + WARM + seconds:
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        if free:
            ask(number, due, free.pop())
        else:
            tasks.add(task := asyncio.create_task(ask_anew(number, due)))
            task.add_done_callback(tasks.discard)
        number, due = number + 1, due + rng.expovariate(rate)
    seen.cpu, took = time.process_time() - cpu, time.perf_counter() - begun
    seen.took, seen.cpu = seconds, seen.cpu * seconds / took
    await asyncio.gather(*tasks)
    end = time.perf_counter() + PATIENCE
    while waiting and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    for due in waiting.values():
        if due >= begun + WARM:
            seen.note(0, 0.0)
    for connection in free:
        connection.transport.close()
    return seen
