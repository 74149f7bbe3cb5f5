"""How the application listens: uvicorn with bounds for what it does not bound itself, and quick refusals."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from functools import lru_cache
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from unistep.serving.api.door import HEADERS, Door
from unistep.serving.api.errors import APIError
from unistep.serving.settings import Limits

HEAD = 64_000
"""Bytes of a request's line and headers."""
CONNECTIONS = 1000
"""Connections at a time."""
KEPT = 15.0
"""Seconds for which a connection is kept for the next request."""
WORD = 200_000
"""Bytes of a WebSocket's message."""


def server_of(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """The server of an application.

    Args:
        app: The application, as :func:`~unistep.serving.api.app.create_app` makes it.
        limits: How long clients may take, and how long a stop.
    """
    patient = type("Patient", (Prompt,), {"seconds": limits.body_seconds, "door": app.state.door})
    config = uvicorn.Config(
        app,
        http=patient,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=WORD,
        ws_max_queue=8,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=math.ceil(min(KEPT, limits.body_seconds)),
        backlog=1024,
        timeout_graceful_shutdown=math.ceil(limits.drain),
    )
    logging.getLogger("uvicorn.error").addFilter(_without_strangers)
    return uvicorn.Server(config)


def _without_strangers(record: logging.LogRecord) -> bool:
    """Leave out where in uvicorn it was seen that a client's message is no UTF-8: that is no defect."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = None
    return True


class Prompt(HttpToolsProtocol):
    """A connection with the ends that uvicorn's lacks, and a quick way to refuse.

    It is closed where headers, or the rest of a body that is not read any more, do not come in time. What is no HTTP
    ends the request that it belongs to. Where there is no room, a request is refused before the application sees it.
    """

    seconds = 15.0
    """For how long."""
    door: Door
    """Who may come in."""
    _timer: asyncio.TimerHandle | None = None
    _partial: int | None = None  # bytes of a head whose end is not there
    _head = 0
    _active: RequestResponseCycle | None = None  # of those that were sent one after the other, the one that is answered
    _ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait on unless a request is there."""
        if self._ended or self.transport.is_closing():
            return
        super().data_received(data)
        if self._ended or self.transport.is_closing():
            return
        if self._partial is not None:
            self._partial += len(data)
            if self._partial > HEAD:
                self.send_400_response("Invalid HTTP request received.")
                return
        if self._answers:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    @property
    def _answers(self) -> bool:
        """Whether a request is there that has no whole answer yet."""
        return self._active is not None and not self._active.response_complete

    def on_message_begin(self) -> None:
        """Begin to count the bytes of a head."""
        self._partial = self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count an address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD:
            raise ValueError("the headers are too large")  # which the parser makes an error of its own

    def on_headers_complete(self) -> None:
        """Refuse what no client of HTTP sends; else begin to answer."""
        self._partial = None
        self._forget()
        assert self.parser is not None  # it calls this
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (hosts == 0 and version == "1.1"):
            raise ValueError("no version of HTTP that is known here, or not one host")
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Refuse a request at once where there is no room, else let the application answer it."""
        self._active = cycle
        # Pages of other origins need headers that the application adds; what waits its turn goes the long way, too.
        plain = not self.pipeline and all(name != b"origin" for name, _ in cycle.scope["headers"])
        full = self.door.full(cycle.scope) if plain else None  # type: ignore[arg-type]
        if full is None:
            super()._start_asgi_task(cycle, app)
            return
        self.door.note_refused(full)
        cycle.response_started = cycle.response_complete = True
        line, rest = _refusal(full.status, full.message, full.code, full.retry)
        own = [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
        if not cycle.keep_alive:
            own.append(b"connection: close\r\n")
        own.append(b"x-request-id: %s\r\n" % secrets.token_hex(8).encode())
        self.transport.write(b"".join((line, *own, rest)))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, unless requests before it are still to be answered: it ends after those."""
        self._forget()
        self._ended = True
        if self._answers:
            self.cycle.keep_alive = False
        else:
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, also where it comes in the middle of a body, or of the answer."""
        active = self._active
        if active is None or active.response_complete or not active.response_started:
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget()
        self._leave()
        super().connection_lost(exc)

    def _leave(self) -> None:
        """Answer nothing more."""
        self._ended = True
        self.pipeline.clear()
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True  # else the application would answer a second time
            self._active.message_event.set()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@lru_cache(64)
def _refusal(status: int, message: str, code: str | None, retry: float | None) -> tuple[bytes, bytes]:
    """The first line of a refusal, and all that comes after the headers that each has of its own."""
    answer = APIError(status, message, code=code, retry=retry).response()
    headers = [*answer.raw_headers, *((name.encode(), value.encode()) for name, value in HEADERS.items())]
    return STATUS_LINE[status], b"".join([b"%s: %s\r\n" % one for one in headers]) + b"\r\n" + bytes(answer.body)
