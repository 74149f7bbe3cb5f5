"""The door of the server: who may come in, how often and with how much, and what is noted of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from unistep.serving.api.errors import APIError
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
CLIENTS = 10_000
"""Clients whose rate is remembered."""


class Buckets:
    """A token bucket for each client: so many requests a minute, half of them at once at most.

    Args:
        rate: Requests a minute; 0 for any number.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate / 60.0
        self._most = max(1.0, rate / 2)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take a token.

        Args:
            client: Whose.

        Returns:
            0, or the seconds until there is one.
        """
        if self._rate <= 0:
            return 0.0
        now = time.monotonic()
        left, since = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[client] = (left if wait else left - 1, now)
        while len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return wait


class Window:
    """How many requests may be inside at a time: fewer once answers take long, more while they do not.

    What waits inside costs time that those who are answered need; so it is refused before anything is read of it.

    Args:
        most: Requests at most.
        seconds: In which each must be answered.
    """

    LEAST = 8

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = float(most), seconds
        self.size = float(most)
        """Requests that may be inside."""
        self.inside = 0
        """Requests that are."""

    def enter(self) -> bool:
        """Whether another may come in."""
        if self.inside >= self.size:
            return False
        self.inside += 1
        return True

    def leave(self, seconds: float) -> None:
        """Note that one was answered, and after how long."""
        if seconds > self._seconds / 2:
            self.size = max(min(self.size, self.inside) * 0.97, self.LEAST)
        elif self.inside > 0.8 * self.size:
            self.size = min(self.size + 0.5, self._most)
        self.inside -= 1


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
    return "address:" + str((scope.get("client") or ("unknown",))[0])


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

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["client"] = client_of(scope, bool(self._settings.keys))
        try:
            self._check(scope)
        except APIError as error:
            await self._refuse(error, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST" or scope["path"].startswith("/v1/videos"):  # which wait for as long as they take
            await self._serve(scope, receive, send)
            return
        if not self._window.enter():
            self._metrics.refused.labels("door").inc()
            busy = APIError(503, "the server is too busy to answer in time", code="overloaded", retry=1.0)
            await self._refuse(busy, scope, receive, send)
            return
        begun = time.monotonic()
        try:
            await self._serve(scope, receive, send)
        finally:
            self._window.leave(time.monotonic() - begun)

    def _check(self, scope: Message) -> None:
        """Raise unless the request may come in.

        Raises:
            APIError: If it has no key that opens, or comes too often.
        """
        path = scope["path"]
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
                    "code": 1008 if error.status in (401, 403) else 1013,
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
        try:
            body = await self._body(scope, receive)
        except APIError as error:
            await error.response()(scope, receive, sending)
        else:
            if body is None:
                noted["status"] = 499  # the client has left
                return
            await self._app(scope, _replayed(body, receive), sending)
        finally:
            took = time.monotonic() - begun
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(noted["status"])).inc()
            self._metrics.answered.labels(route).observe(took)
            if log.isEnabledFor(logging.INFO):
                log.info(
                    json.dumps(
                        {
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
                    )
                )

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """The whole body of a request, as far as it may have one; ``None`` where the client leaves first.

        Raises:
            APIError: If it is too large, or takes too long.
        """
        most = self._limits.body
        headers = dict(scope["headers"])
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
