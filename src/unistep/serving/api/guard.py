"""The middleware at the server's door: what is read of a request, how it is answered, and what is noted of it."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from unistep.serving.api.door import HEADERS, Door, Message
from unistep.serving.api.errors import APIError, as_api_error
from unistep.serving.api.limiting import Place
from unistep.serving.caller import Caller
from unistep.serving.jobs import LateError
from unistep.serving.metrics import Metrics
from unistep.serving.settings import Limits

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("unistep.access")
"""One line of JSON for each request."""

WORDS = 2_000_000
"""Bytes of a body that is no form with files: reading JSON takes the event loop's time, and many times its memory."""
BODIES = 32
"""Largest bodies for which there is memory at a time."""


class Guard:
    """ASGI middleware around the application.

    Args:
        app: The application.
        door: Who may come in.
        limits: Sizes and times.
        metrics: Counts requests.
    """

    def __init__(self, app: Any, door: Door, limits: Limits, metrics: Metrics) -> None:
        self._app, self._door, self._limits, self._metrics = app, door, limits, metrics
        self._held = 0  # bytes of the bodies of all requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        client = self._door.client(scope)
        scope.setdefault("state", {}).update(client=client, caller=Caller(name=client))
        try:
            self._door.check(scope)
        except APIError as error:
            await self._refuse(error, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        full = self._door.full(scope)
        if full is not None:
            await self._refuse(full, scope, receive, send)
            return
        await self._serve(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let the application answer a request whose body is there, inside the window until it begins to.

        Raises:
            APIError: If the window is full.
        """
        if not self._door.is_counted(scope):
            await self._app(scope, receive, send)
            return
        client = scope["state"]["client"]
        full = self._door.full(scope)
        if full is not None:
            raise full
        place = Place(self._door.window, client)
        scope["state"]["caller"] = Caller(
            name=client, deadline=place.deadline - self._door.window.after, aside=place.aside, done=place.done
        )
        late = False

        async def sending(message: Message) -> None:
            nonlocal late
            if message["type"] == "http.response.start":
                late = message["status"] == 200 and place.is_late
                place.leave()
                if late:  # what was made in time may still have become a file too late
                    self._metrics.late.inc()
                    error = as_api_error(LateError(f"not done within {self._limits.timeout:g} s"))
                    await error.response()(scope, receive, send)
            if not late:
                await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            place.leave()

    async def _refuse(self, error: APIError, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send(
                {
                    "type": "websocket.close",
                    "code": 1008 if error.status in (401, 403, 421) else 1013,
                    "reason": error.message,
                }
            )
            return
        self._door.note_refused(error)
        await error.response()(scope, receive, self._with_headers(scope, send, {}))

    def _with_headers(self, scope: Message, send: Send, noted: dict[str, Any]) -> Send:
        request = secrets.token_hex(8)
        scope["state"]["request"] = request

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                noted["status"] = message["status"]
                own = {name for name, _ in message["headers"]}
                more = {**HEADERS, "x-request-id": request}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in more.items() if name.encode() not in own),
                ]
            elif message["type"] == "http.response.body":
                noted["bytes"] = noted.get("bytes", 0) + len(message.get("body", b""))
            await send(message)

        return sending

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        begun, noted = time.monotonic(), {"status": 500}
        sending = self._with_headers(scope, send, noted)
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held + size > BODIES * self._limits.body:
                raise APIError(503, "the server has too much to read", code="overloaded", retry=1.0)
            held, self._held = held + size, self._held + size

        try:
            body = await self._body(scope, receive, hold)
            if body is None:
                noted["status"] = 499  # the client has left
                return
            await self._answer(scope, _replayed(body, receive), sending)
        except APIError as error:
            await error.response()(scope, receive, sending)
        finally:
            self._held -= held
            took = time.monotonic() - begun
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(noted["status"])).inc()
            self._metrics.answered.labels(route).observe(took)
            if log.getEffectiveLevel() <= logging.INFO:
                line = {
                    "time": round(time.time(), 3),
                    "request": scope["state"].get("request"),
                    "client": scope["state"]["client"],
                    "method": scope["method"],
                    "route": route,
                    "status": noted["status"],
                    "bytes": noted.get("bytes", 0),
                    "ms": round(1e3 * took, 2),
                    **scope["state"].get("noted", {}),
                }
                # By hand: while a backend is tried, what exporters log is kept from everywhere by logging.disable.
                log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, json.dumps(line), (), None))

    async def _body(self, scope: Message, receive: Receive, hold: Callable[[int], None]) -> bytes | None:
        """The whole body of a request, as far as it may have one; ``None`` where the client leaves first.

        Args:
            scope: The request.
            receive: Its messages.
            hold: Called with the size of each part.

        Raises:
            APIError: If it is too large, takes too long, or there is no memory for it.
        """
        headers = dict(scope["headers"])
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        most = self._limits.body if is_form else min(self._limits.body, WORDS)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18 or int(length) > most:
            raise APIError(413, f"a body of at most {most:,} bytes is read", code="too_large")
        if scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE") and length == b"0":
            return b""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    hold(len(parts[-1]))
                    size += len(parts[-1])
                    if size > most:
                        raise APIError(413, f"a body of at most {most:,} bytes is read", code="too_large")
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise APIError(408, f"the body was not there within {seconds:g} s", code="too_slow") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that is there already, then what comes after it."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
