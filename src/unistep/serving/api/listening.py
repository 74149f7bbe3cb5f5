"""How the application listens: uvicorn with bounds for what it does not bound itself."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from unistep.serving.settings import Limits

HEADERS = 64_000
"""Bytes of a request's headers."""
CONNECTIONS = 1000
"""Connections at a time."""
KEPT = 15.0
"""Seconds for which a connection is kept for the next request."""
WORD = 200_000
"""Bytes of a WebSocket's message."""


def server_of(app: Any, limits: Limits) -> uvicorn.Server:
    """The server of an application.

    Args:
        app: The application.
        limits: How long clients may take, and how long a stop.
    """
    patient = type("Patient", (Prompt,), {"seconds": limits.body_seconds})
    config = uvicorn.Config(
        app,
        http=patient,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=WORD,
        ws_max_queue=8,
        h11_max_incomplete_event_size=HEADERS,
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


class Prompt(H11Protocol):
    """A connection with the ends that uvicorn's lacks.

    It is closed where the headers of its first request, or the rest of those of a later one, do not come in time, and
    a body that is no HTTP ends the request that it belongs to.
    """

    seconds = 15.0
    """For how long."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait on unless the headers are there."""
        super().data_received(data)
        waits = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if not waits:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, also where it comes in the middle of a body, or of the answer."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # else the application would answer a second time
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
