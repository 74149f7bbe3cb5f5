"""Requests that no honest client sends: each is bytes for a socket, made from a source of random numbers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from random import Random
from typing import Any

from hostile_parts import HUGE, VALUES, Attack, Target, as_json, request
from hostile_pictures import picture
from hostile_sockets import sockets


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
    rest = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    post = b"POST /v1/images/generations" + rest + b"Content-Type: application/json\r\n"
    get = b"GET /health" + rest
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


ATTACKS: tuple[tuple[Callable[[Random, Target], Attack], int], ...] = (
    *((wrong_values, 30), (broken_json, 12), (wrong_kind, 8), (wrong_forms, 15), (odd_paths, 8), (odd_http, 10)),
    *((left_early, 7), (slowly, 2), (sockets, 8)),
)
"""What is sent, and how often."""
