"""Who may come in to the server, how often, and how many at a time."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from unistep.serving.api.errors import APIError, as_api_error
from unistep.serving.api.limiting import CLIENTS, Buckets, Window
from unistep.serving.hosts import host_name
from unistep.serving.jobs import ShareError
from unistep.serving.metrics import Metrics
from unistep.serving.settings import Settings

Message = MutableMapping[str, Any]

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


class Door:
    """Decides who comes in, of all that one server answers.

    Args:
        settings: Keys and limits.
        metrics: Counts those who are refused.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._keys, self._buckets = Keys(settings.keys), Buckets(settings.limits.rate)
        self.window = Window(settings.limits.queue, settings.limits.timeout)
        """Requests that are inside."""

    def client(self, scope: Message) -> str:
        """Whose limits a request counts against."""
        return client_of(scope, bool(self._settings.keys))

    def full(self, scope: Message) -> APIError | None:
        """Why a request cannot come in now, which is decided before anything else is looked at.

        Args:
            scope: The request, of which only address, method, path and headers are needed.
        """
        if not self.is_counted(scope):
            return None
        client = self.client(scope)
        return None if self.window.has_room(client) else self.busy(client)

    def is_counted(self, scope: Message) -> bool:
        """Whether a request needs a place in the window: not videos, which wait for as long as they take."""
        return scope["method"] == "POST" and not scope["path"].startswith("/v1/videos")

    def note_refused(self, error: APIError) -> None:
        """Count a request that is answered with an error before it came in."""
        self._metrics.requests.labels("refused", str(error.status)).inc()

    def busy(self, client: str) -> APIError:
        """Why there is no room for a client, which is counted: its own share of the queue is full, or all of it is."""
        held = self.window.shares.held(client)
        if held and self.window.shares.others(client):
            self._metrics.refused.labels("share").inc()
            return as_api_error(ShareError(held, 1.0))
        self._metrics.refused.labels("door").inc()
        return APIError(503, "the server is too busy to answer in time", code="overloaded", retry=1.0)

    def check(self, scope: Message) -> None:
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
