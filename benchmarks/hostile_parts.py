"""What requests that no honest client sends are made of: values, bytes of a request, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is sent, and how."""

    parts: tuple[bytes, ...]
    """Sent one after the other."""
    pause: float = 0.0
    """Seconds between them."""
    leaves: str = ""
    """Whether the client goes before it is answered: ``closed``, or ``reset``."""


@dataclass(frozen=True)
class Target:
    """What a server has, so that half of a request can be right."""

    image: str
    sound: str
    stream: str
    world: str


HUGE = "9" * 5000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**400),
    *(float("nan"), float("inf"), -float("inf"), "", " ", "0", "1", "-1", "nan", "null", "true", "auto", "x" * 300),
    *(
        "x" * 30_000,
        "\x00",
        "\u0000seed",
        "\ud800",
        "\udfff\ud800",
        "😀" * 100,
        "é",
        "ﷺ" * 50,
        "\u202e",
        "a\u0301" * 99,
    ),
    *("../../etc/passwd", "/etc/passwd", "..\\..\\x", "file:///etc/passwd", "http://127.0.0.1/", "%2e%2e%2f", "~root"),
    *("{{7*7}}", "${jndi:ldap://x}", "'; DROP TABLE", "<script>", "\r\nX-Injected: 1", "%s%n%d", "__import__('os')"),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3], [[1] * 50] * 50, ["left"] * 1000, {"a": {"b": {"c": []}}}),
    *([0.0] * 10_000, {str(i): i for i in range(2000)}, {"label": 10**30}, {"label": [0]}, {"label": "sneaker"}),
    *(
        {"action": [1e308, -1e308]},
        {"action": "left+" * 500},
        {"pitch": -1},
        {"pitch": "C" * 5000},
        {"velocity": 1e300},
    ),
)
"""Values of wrong types, sizes and meanings."""


def request(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", headers: bytes = b"", length: Any = None
) -> bytes:
    """A request of which each part may be wrong."""
    length = len(body) if length is None else length
    lines = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    return lines.encode("utf-8", "surrogatepass") + headers + f"Content-Length: {length}\r\n\r\n".encode() + body


def as_json(value: Any, random: Random) -> bytes:
    """JSON, now and then in another encoding."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    return text.encode(random.choice(["utf-8"] * 8 + ["utf-16", "utf-32"]), "surrogatepass")
