"""WebSockets that no honest client opens."""

from __future__ import annotations

import base64
import struct
from random import Random
from typing import Any

from hostile_parts import VALUES, Attack, Target, as_json


def _masked(content: bytes) -> bytes:
    key = (b"\x01\x02\x03\x04" * (len(content) // 4 + 1))[: len(content)]
    return (int.from_bytes(content) ^ int.from_bytes(key)).to_bytes(len(content))


def frame(content: bytes, first: int = 0x81, masked: bool = True, length: int | None = None) -> bytes:
    """A frame of a WebSocket of which each part may be wrong."""
    size = len(content) if length is None else length
    mask = 0x80 if masked else 0
    head = bytes([first, mask | size]) if size < 126 else bytes([first, mask | 126]) + struct.pack(">H", size & 0xFFFF)
    if size > 0xFFFF:
        head = bytes([first, mask | 127]) + struct.pack(">Q", size)
    key = b"\x01\x02\x03\x04" if masked else b""
    return head + key + (_masked(content) if masked else content)


def sockets(random: Random, target: Target) -> Attack:
    """A WebSocket with broken frames, messages without sense, or a handshake that is none."""
    media = random.choice(("video", "audio"))
    key = base64.b64encode(random.randbytes(random.choice((16, 16, 16, 16, 3)))).decode()
    version = random.choice(("13",) * 9 + ("8",))
    query = random.choice(("", "", "?key=%ff", "?key=" + "x" * 5000))
    lines = (
        f"GET /v1/realtime/{media}{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    lines += f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n\r\n"
    start: dict[str, Any] = {"type": "session.start", "model": target.world if media == "video" else target.stream}
    start |= {"seed": 1, "condition": {}, "format": "jpeg" if media == "video" else "pcm", "quality": 50}
    wrong = dict(start)
    wrong[random.choice([*start, "fps", "num_inference_steps", "colour"])] = random.choice(VALUES)
    act = {"type": "session.interaction", random.choice(("condition", "keys", "x")): random.choice(VALUES)}

    ping = {"type": "session.ping", "t": random.choice(VALUES)}

    def said(value: Any) -> bytes:
        return frame(as_json(value, random)[:60_000])

    going = said(start)
    sent = random.choice(
        (
            said(wrong),
            said(wrong),
            going + said(act),
            going + said(act),
            going + said(ping),
            going + going,
            said([]),
            said({"type": []}),
            frame(b"[" * 50_000),
            frame(b"\xff\xfe\xfd"),
            frame(b"x", 0x82),
            frame(b"x", 0xF1),
            frame(b"x", 0x83),
            frame(b"x", 0x80),
            frame(b"x" * 126, 0x89),
            frame(b"x", masked=False),
            frame(b"x", length=2**62),
            frame(b"x", length=150_000) + bytes(160_000),
            frame(b"x", 0x01) + frame(b"y", 0x01),
            frame(b"\x03", 0x88),
            frame(b"\x00\x01", 0x88),
            going + b"\x81",
            random.randbytes(300),
            going + said({"type": "session.stop"}),
            b"",
            b"".join(frame(b"", 0x89) for _ in range(500)),
            going + said(act) * 50,
            frame(b'{"type": "session.start"', 0x01) + frame(b"}", 0x80),
        )
    )
    return Attack(parts=(lines.encode(), sent), pause=0.05, leaves=random.choice(("", "closed", "reset")))
