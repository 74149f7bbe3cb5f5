"""The door of the server: who may come in, how often and with how much, and what is noted of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

from unistep.serving.api.errors import APIError, as_api_error
from unistep.serving.api.limiting import CLIENTS, Buckets, Place, Window
from unistep.serving.caller import Caller
from unistep.serving.hosts import host_name
from unistep.serving.jobs import ShareError
from unistep.serving.metrics import Metrics
from unistep.serving.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("unistep.access")
"""One line of JSON for each request."""

OPEN = ("/health", "/readyz", "/metrics")
"""Routes that need no key."""
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' ws: wss:; "
    "style-src 'self'; script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""What pages of this server may load: nothing from elsewhere."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer."""
WORDS = 2_000_000
"""Bytes of a body that is no form with files: reading JSON takes the event loop's time, and many times its memory."""
BODIES = 32
"""Largest bodies for which there is memory at a time."""


class Keys:
    """The keys that open a server, of which only hashes are kept.

    Args:
        keys: The keys; anyone may come in without.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._known = [hashlib.sha256(key.encode()).digest() for key in keys]

    def allows(self, given: str | None) -> bool:
        """Whether a key opens, compared in a time that does not depend on it."""
        if not self._known:
            return True
        found = hashlib.sha256((given or "").encode("utf-8", "surrogatepass")).digest()
        return any([hmac.compare_digest(found, one) for one in self._known]) and bool(given)


def key_of(scope: Message) -> str | None:
    """The key that a request shows: ``Authorization: Bearer KEY``, or of a WebSocket, ``?key=KEY``."""
    for name, value in scope.get("headers", ()):
        if name == b"authorization":
            kind, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if kind.lower() == "bearer" else None
    if scope["type"] == "websocket":
        from urllib.parse import parse_qs

        return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key", [None])[0]
    return None


def client_of(scope: Message, keyed: bool) -> str:
    """Whose limits a request counts against: the key's, or the address's.

    Args:
        scope: The request.
        keyed: Whether the server has keys; without, any key would make a client another one.
    """
    key = key_of(scope) if keyed else None
    if key:
        return "key:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return "address:" + _network(str((scope.get("client") or ("unknown",))[0]))


@lru_cache(CLIENTS)
def _network(address: str) -> str:
    """An address; of IPv6, the network of 64 bits that belongs to one client, who may have any address in it."""
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


class Guard:
    """ASGI middleware around the application.

    Args:
        app: The application.
        settings: Keys and limits.
        metrics: Counts requests.
    """

    def __init__(self, app: Any, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._limits, self._metrics = app, settings, settings.limits, metrics
        self._keys, self._buckets = Keys(settings.keys), Buckets(settings.limits.rate)
        self._window = Window(settings.limits.queue, settings.limits.timeout)
        self._held = 0  # bytes of the bodies of all requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        client = client_of(scope, bool(self._settings.keys))
        scope.setdefault("state", {}).update(client=client, caller=Caller(name=client))
        try:
            self._check(scope)
        except APIError as error:
            await self._refuse(error, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        if self._is_counted(scope) and not self._window.has_room(client):
            await self._refuse(self._busy(client), scope, receive, send)
            return
        await self._serve(scope, receive, send)

    def _is_counted(self, scope: Message) -> bool:
        """Whether a request needs a place in the window: not videos, which wait for as long as they take."""
        return scope["method"] == "POST" and not scope["path"].startswith("/v1/videos")

    def _busy(self, client: str) -> APIError:
        held = self._window.shares.held(client)
        if held and self._window.shares.others(client):
            self._metrics.refused.labels("share").inc()
            return as_api_error(ShareError(held, 1.0))
        self._metrics.refused.labels("door").inc()
        return APIError(503, "the server is too busy to answer in time", code="overloaded", retry=1.0)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let the application answer a request whose body is there, inside the window until it begins to.

        Raises:
            APIError: If the window is full.
        """
        if not self._is_counted(scope):
            await self._app(scope, receive, send)
            return
        client = scope["state"]["client"]
        if not self._window.has_room(client):
            raise self._busy(client)
        place = Place(self._window, client)
        scope["state"]["caller"] = Caller(name=client, aside=place.aside)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                place.leave()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            place.leave()

    def _check(self, scope: Message) -> None:
        """Raise unless the request may come in.

        Raises:
            APIError: If it means another host, has no key that opens, or comes too often.
        """
        path = scope["path"]
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if self._settings.hosts and host_name(host) not in self._settings.hosts:
            raise APIError(421, f"this server does not answer as {host[:60]!r}; see --allow-host", code="host_refused")
        if self._is_foreign(scope):
            raise APIError(403, "pages of this origin may not ask here; see --origins", code="origin_refused")
        if path in OPEN or path == "/" or path.startswith("/studio"):
            return
        if not self._keys.allows(key_of(scope)):
            raise APIError(401, "this server needs an API key: Authorization: Bearer KEY", code="invalid_api_key")
        wait = self._buckets.take(scope["state"]["client"])
        if wait:
            raise APIError(429, "too many requests", code="rate_limit_exceeded", retry=wait)

    def _is_foreign(self, scope: Message) -> bool:
        """Whether a page from elsewhere asks for more than to look: browsers let it open WebSockets and send forms."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or scope.get("method") in ("GET", "HEAD", "OPTIONS"):
            return False
        return origin not in self._settings.origins and origin.partition("://")[2] != headers.get(b"host", b"").decode(
            "latin-1"
        )

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
        self._metrics.requests.labels("refused", str(error.status)).inc()
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
