"""Requests that no honest client sends: each is bytes for a socket, made from a source of random numbers."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
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


def bodies(target: Target) -> dict[str, dict[str, Any]]:
    """A right request for each route that takes JSON."""
    return {
        "/v1/images/generations": {
            "model": target.image, "prompt": "", "n": 1, "seed": 1, "size": "auto", "output_format": "png",
            "num_inference_steps": 1, "condition": {}, "toward": {"seed": 2, "share": 0.5}, "stream": False,
            "output_compression": 80, "partial_images": 1, "guidance_scale": 1, "user": "x",
            "response_format": "b64_json",
        },
        "/v1/audio/generate": {
            "model": target.sound, "condition": {"pitch": "C4"}, "seed": 1, "seconds": 0.1, "response_format": "wav",
            "stream": False, "num_inference_steps": 1, "prompt": "",
        },
        "/v1/audio/speech": {
            "model": target.stream, "input": "C4 E4", "voice": "", "response_format": "wav", "speed": 1, "seed": 1,
            "instructions": "", "stream_format": "audio",
        },
        "/v1/videos": {
            "model": target.world, "seconds": 0.1, "seed": 1, "actions": ["left", [0.0, 1.0]], "size": "auto",
            "output_format": "mp4", "condition": {}, "num_inference_steps": 1, "prompt": "",
        },
        "/v1/videos/sync": {"model": target.world, "seconds": 0.1, "seed": 1, "actions": ["left"]},
    }  # fmt: skip


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


def wrong_values(random: Random, target: Target) -> Attack:
    """A right body with one or two values that are wrong, a field too many, or one twice."""
    path, body = random.choice(list(bodies(target).items()))
    for _ in range(random.choice((1, 1, 2))):
        body[random.choice([*body, "colour", "__class__", "\ud800", ""])] = random.choice(VALUES)
    content = as_json(body, random)
    if random.random() < 0.1:
        content = content[:1] + b'"seed": 3, "seed": "x", ' + content[1:]
    accept = random.choice(
        (b"", b"Accept: image/png\r\n", b"Accept: */*;q=" + b"9" * 3000 + b"\r\n", b"Accept: \xff\r\n")
    )
    return Attack(parts=(request("POST", path, content, headers=accept),))


def broken_json(random: Random, target: Target) -> Attack:
    """A body that is hardly JSON."""
    path, body = random.choice(list(bodies(target).items()))
    text = json.dumps(body)
    depth = random.choice((100, 1000, 100_000))
    deep = {"condition": 0}
    for _ in range(random.choice((50, 500))):
        deep = {"condition": deep}
    content = random.choice(
        (
            text[: random.randrange(len(text))].encode(),
            text.encode() + text.encode(),
            b"\xef\xbb\xbf" + text.encode(),
            b"[" * depth,
            b'{"a":' * depth,
            b"[" * depth + b"]" * depth,
            json.dumps(deep).encode(),
            b'{"seed": %s}' % HUGE.encode(),
            b'{"seed": 1e%s}' % HUGE.encode(),
            b'{"seed": -}',
            b"{'seed': 1}",
            b'{"seed": 1,}',
            b"// x\n{}",
            b"\x00",
            b"",
            b"null",
            b"1",
            b'"x"',
            b"[]",
            b"{}" * 1000,
            b"\xff" * 100,
            random.randbytes(500),
            b" " * 100_000,
            b'{"prompt": "\\u"}',
            b'{"prompt": "\\ud800"}',
            b'{"\\ud800": 1}',
            b'{"condition": {"\\ud800": 1}}',
            b'"' + b"x" * 1_000_000,
        )
    )
    return Attack(parts=(request("POST", path, content),))


def wrong_kind(random: Random, target: Target) -> Attack:
    """A body of another type than its header says."""
    path, body = random.choice([*bodies(target).items(), ("/v1/images/edits", {"task": "vary"})])
    kind = random.choice((
        "", "text/plain", "text/xml", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data",
        "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 5000, "multipart/mixed; boundary=x",
        "application/json; charset=utf-7", "application/json; charset=nonsense", "application/octet-stream", "*/*",
        "application/json, text/plain", "application/problem+json", "é/ü", ";;;", "x" * 10_000,
    ))  # fmt: skip
    content = random.choice(
        (json.dumps(body).encode(), b"model=x&seed=1&seed=2", b"<?xml version='1.0'?><!DOCTYPE x>", b"%ff=%00")
    )
    coding = random.choice((b"", b"", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n"))
    content = gzip.compress(bytes(2_000_000)) if coding and random.random() < 0.5 else content
    return Attack(parts=(request("POST", path, content, kind, coding),))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, kind: int = 0, rows: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG file that says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


_ROWS = zlib.compress(bytes(16_100_000), 9)
_NOTES = chunk(b"zTXt", b"x\x00\x00" + zlib.compress(bytes(50_000_000), 9))
_PROFILE = chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(50_000_000), 9))


def _right(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """A picture of one colour."""
    from PIL import Image

    content = io.BytesIO()
    Image.new(mode, size).save(content, kind)
    return content.getvalue()


RIGHT = (
    *(_right("PNG", mode, (28, 28)) for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "I;16")),
    *(_right("PNG", "L", size) for size in ((1, 1), (1, 4000), (4000, 1), (300, 200))),
    *(_right("JPEG", mode, (64, 48)) for mode in ("RGB", "CMYK", "L")),
    _right("WEBP", "RGB", (64, 48)),
)
"""Pictures that can be read."""
WRONG = (
    *(png(50_000, 50_000, rows=_ROWS), png(4_000, 4_000, rows=_ROWS), png(3_999, 3_999, depth=16, rows=_ROWS)),
    *(png(0, 0), png(2**31 - 1, 2**31 - 1), png(28, 28, depth=3), png(28, 28, kind=9), png(28, 28, more=_NOTES)),
    *(
        png(28, 28, more=_PROFILE),
        png(28, 28, rows=zlib.compress(bytes(10_000_000))),
        b"",
        b"x",
        b"<svg/>",
        b"%PDF-1.7",
    ),
    *(b"GIF89a" + bytes(100), b"BM" + bytes(100), b"II*\x00" + bytes(100), b"PK\x03\x04", b"RIFF" + bytes(50)),
    *(b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(100), b"\xff\xd8\xff\xe0" + bytes(200)),
)
"""Bombs, and files that only say that they are pictures."""


def picture(random: Random) -> bytes:
    """A file that is a picture, was one, or says that it is."""
    content = random.choice(RIGHT)
    at = random.randrange(2, len(content))
    broken = (content[:at], content + bytes(1000), content[:at] + random.randbytes(4) + content[at + 4 :])
    return random.choice((content, content, random.choice(broken), random.choice(WRONG), random.randbytes(3000)))


OPTIONS = (
    *("", "{", "[]", "null", "1", '{"kernel": "gaussian:1e9"}', '{"kernel": "box:99999"}', '{"kernel": "kernel.npy"}'),
    *(
        '{"mask": "/etc/passwd"}',
        '{"mask": "x.png"}',
        '{"mask": "random:0.5"}',
        '{"mask": "0,0,1e9,1e9"}',
        '{"factor": 0}',
    ),
    *('{"factor": 1e-300}', '{"factor": NaN}', '{"factor": -2}', '{"factor": 2147483647}', '{"sigma": 1e300}'),
    *('{"sigma": -1}', '{"border": "99999"}', '{"border": "1,1,1,1"}', '{"border": "-5"}', '{"count": 2147483647}'),
    *(
        '{"to_seed": -1}',
        '{"known": 1e9}',
        '{"cutoff": NaN}',
        '{"level": 0}',
        '{"operator": "x"}',
        '{"\\ud800": 1}',
        "[" * 9999,
    ),
)
"""Values of the field ``options``."""
TASKS = (
    "",
    "inpaint",
    "outpaint",
    "colorize",
    "upscale",
    "deblur",
    "denoise",
    "sketch",
    "vary",
    "compose",
    "interpolate",
)


def wrong_forms(random: Random, target: Target) -> Attack:
    """A form with files that are none, options without sense, and fields twice."""
    boundary = random.choice(("x", "----WebKitFormBoundary7MA4YWxk", "a" * 70))
    fields: list[tuple[str, bytes, str]] = []
    for name in random.choice(
        (*[("image",)] * 6, ("image", "mask"), ("image", "mask"), ("image[]", "image[]"), ("image",) * 40, ())
    ):
        file = random.choice(("x.png", "../../../etc/passwd", "a" * 5000, "\x00.png", 'q".png', "é.jpg"))
        fields.append((name, picture(random), f'; filename="{file}"\r\nContent-Type: image/png'))
    plain = {
        "task": random.choice(TASKS),
        "options": random.choice(OPTIONS),
        "n": "1",
        "seed": "1",
        "model": target.image,
    }
    for name, value in plain.items():
        if random.random() < 0.7:
            fields.append((name, value.encode(), ""))
    if random.random() < 0.4:
        name = random.choice(
            ("strength", "n", "seed", "condition", "num_inference_steps", "colour", "prompt", "task", "")
        )
        fields.append((name, str(random.choice(VALUES)).encode("utf-8", "surrogatepass"), ""))
    fields += [("seed", b"1", "")] * random.choice((0, 0, 0, 2, 1500))
    random.shuffle(fields)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"
        for name, content, more in fields
    ]
    content = (
        b"".join(parts) + random.choice((f"--{boundary}--\r\n", f"--{boundary}--\r\n", "", "--", "--y--\r\n")).encode()
    )
    if random.random() < 0.1:
        content = content[: random.randrange(len(content) + 1)]
    accept = random.choice((b"", b"Accept: image/png\r\n"))
    return Attack(
        parts=(request("POST", "/v1/images/edits", content, f"multipart/form-data; boundary={boundary}", accept),)
    )


PATHS = (
    *(
        "/..",
        "/../../etc/passwd",
        "/studio/../../../etc/passwd",
        "/studio/%2e%2e/%2e%2e/etc/passwd",
        "/studio/..%2f..%2fx",
    ),
    *(
        "/v1/models/../../x",
        "/v1/models/%2e%2e%2fetc",
        "/v1/models/" + "a" * 20_000,
        "/v1/models/%00",
        "/v1/models/%ff%fe",
    ),
    *(
        "//evil.example/x",
        "http://evil.example/",
        "*",
        "/?x=" + "y" * 30_000,
        "/%",
        "/%zz",
        "/v1/videos/..%2f..",
        "/v1//models",
    ),
    *(
        "/v1/videos/" + "0" * 5000,
        "/v1/videos/%00/content",
        "/studio",
        "/studio/%00",
        "/studio/" + "a/" * 2000,
        "/openapi.json",
    ),
    *(
        "/v1/realtime/video",
        "/v1/realtime/audio",
        "/docs",
        "/redoc",
        "/metrics?x[]=1",
        "/.env",
        "/health;x",
        "/readyz#x",
    ),
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 100)


def odd_paths(random: Random, target: Target) -> Attack:
    """A path that leads elsewhere."""
    path = random.choice([*PATHS, *bodies(target), f"/v1/models/{target.image}/.."])
    return Attack(parts=(request(random.choice(METHODS), path, random.choice((b"", b"{}"))),))


def odd_http(random: Random, target: Target) -> Attack:
    """What is hardly HTTP."""
    post = b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    get = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    body = json.dumps({"model": target.image}).encode()
    size = str(len(body)).encode()
    chunked, sized = post + b"Transfer-Encoding: chunked\r\n\r\n", post + b"Content-Length: "
    return Attack(
        parts=(
            random.choice(
                (
                    b"\r\n\r\n",
                    b"\x00" * 100,
                    b"GET\r\n\r\n",
                    b"GET / HTTP/9.9\r\n\r\n",
                    b"GET /health HTTP/1.0\r\n\r\n",
                    b"GET /health\r\n\r\n",
                    b"\x16\x03\x01\x02\x00" + random.randbytes(300),
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    b"SSH-2.0-x\r\n",
                    b"GET /health HTTP/1.1\r\n\r\n",
                    b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
                    get + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
                    get + b"X: y\r\n" * 5000 + b"\r\n",
                    get + b"Bad Header: x\r\n\r\n",
                    get + b"X: a\x00b\r\n\r\n",
                    get + b" folded\r\n\r\n",
                    get + b"Expect: 100-continue\r\n\r\n",
                    get + b"Range: bytes=0-\r\n\r\n",
                    get + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
                    get + b"Authorization: Bearer \xff\xfe\r\n\r\n",
                    get + b"Authorization: " + b"A" * 30_000 + b"\r\n\r\n",
                    get + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
                    sized + b"-1\r\n\r\n" + body,
                    sized + b"1e3\r\n\r\n" + body,
                    sized + b"+5\r\n\r\n{}   ",
                    sized + b"" + b"9" * random.choice((18, 19, 25, 5000)) + b"\r\n\r\n",
                    post + b"\r\n" + body,
                    sized + b"5\r\nContent-Length: 6\r\n\r\n" + body,
                    sized + b"99999999\r\n\r\n" + body,
                    sized + b"" + size + b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                    post + b"Transfer-Encoding: gzip\r\n\r\n",
                    chunked + b"" + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n",
                    chunked + b"ffffffffffffffffff\r\n" + body,
                    chunked + b"-1\r\n",
                    chunked + b"" + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n",
                    sized + b"2\r\n\r\n{}" + get,
                    chunked + b"0\r\nX: " + b"y" * 50_000,
                    random.randbytes(2000),
                )
            ),
        ),
        leaves=random.choice(("", "", "closed")),
    )


def left_early(random: Random, target: Target) -> Attack:
    """Half a request, or a whole one whose client does not wait."""
    path, body = random.choice(list(bodies(target).items()))
    whole = request("POST", path, json.dumps(body).encode())
    sent = whole if random.random() < 0.5 else whole[: random.randrange(1, len(whole))]
    return Attack(parts=(sent,), leaves=random.choice(("closed", "reset")))


def slowly(random: Random, target: Target) -> Attack:
    """A request in many small parts."""
    path, body = random.choice(list(bodies(target).items()))
    whole = request("POST", path, json.dumps(body).encode())
    step = len(whole) // 10
    return Attack(
        parts=tuple(whole[i : i + step] for i in range(0, len(whole), step)), pause=random.choice((0.0, 0.02, 0.1))
    )


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
    lines = f"GET /v1/realtime/{media}{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
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


ATTACKS: tuple[tuple[Callable[[Random, Target], Attack], int], ...] = (
    *((wrong_values, 30), (broken_json, 12), (wrong_kind, 8), (wrong_forms, 15), (odd_paths, 8), (odd_http, 10)),
    *((left_early, 7), (slowly, 2), (sockets, 8)),
)
"""What is sent, and how often."""
