"""Edits over HTTP: forms as OpenAI's clients send them, and files that are none."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from running_server import pixels, png
from unistep.provenance import read_content

ROUTE = "/v1/images/edits"


def edit(server, files: dict[str, bytes], headers: dict[str, str] | None = None, **fields):
    sent = [(name.removesuffix("*"), (f"{name}.png", content, "image/png")) for name, content in files.items()]
    return server.client.post(ROUTE, data=fields, files=sent, headers=headers or {})


def picture() -> bytes:
    """A grey ramp."""
    content = io.BytesIO()
    Image.fromarray(np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).__mod__(256).astype(np.uint8)).save(
        content, "PNG"
    )
    return content.getvalue()


def half(transparent: bool) -> bytes:
    """A mask of the left half: transparent, or white on black."""
    image = Image.new("RGBA", (56, 56), (255, 255, 255, 255) if transparent else (0, 0, 0, 255))
    image.paste((0, 0, 0, 0) if transparent else (255, 255, 255, 255), (0, 0, 28, 56))
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("transparent", [True, False])
def test_what_a_mask_leaves_stays(server, transparent):
    answer = edit(server, {"image": picture(), "mask": half(transparent)}, model="fashion", seed="3", prompt="bag")
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["data"]
    assert one["seed"] == 3
    before, after = pixels(picture()), pixels(one["b64_json"])
    assert np.abs(before - after)[:, 14:].max() <= 1
    assert np.abs(before - after)[:, :14].max() > 1
    mark = read_content(base64.b64decode(one["b64_json"])).mark
    assert mark is not None
    assert (mark.model, mark.seed) == ("fashion", "3")


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("vary", {"strength": "0.4"}),
        ("sketch", {"strength": "0.6"}),
        ("upscale", {"options": '{"factor": 2}'}),
        ("deblur", {"options": '{"kernel": "gaussian:1.5"}'}),
        ("denoise", {"options": '{"sigma": 0.2}'}),
        ("outpaint", {"options": '{"border": "4"}'}),
        ("inpaint", {"options": '{"mask": "left+10,10,20,20"}'}),
    ],
)
def test_each_task_gives_a_picture(server, task, fields):
    answer = edit(server, {"image": picture()}, headers={"Accept": "image/png"}, task=task, seed="1", **fields)
    assert answer.status_code == 200, answer.text
    assert pixels(answer.content).shape == (28, 28, 3)
    assert answer.headers["x-seed"] == "1"


def test_an_item_belongs_to_its_seed(server):
    fields = {"task": "vary", "strength": "0.5"}
    three = edit(server, {"image": picture()}, n="3", seed="5", **fields).json()["data"]
    assert [one["seed"] for one in three] == [5, 6, 7]
    alone = edit(server, {"image": picture()}, seed="6", **fields).json()["data"][0]
    assert np.abs(pixels(three[1]["b64_json"]) - pixels(alone["b64_json"])).max() <= 1


def test_several_images_make_one(server):
    answer = edit(server, {"image[]": picture(), "image[]*": png()}, task="compose", strength="0.5")
    assert answer.status_code == 400, answer.text
    assert "weights" in answer.text or "images" in answer.text or "mask" in answer.text
    answer = edit(server, {"image[]": picture()}, task="vary")
    assert answer.status_code == 200, answer.text


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header says that it is huge, of few bytes."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


@pytest.mark.parametrize(
    ("files", "fields", "code"),
    [
        ({}, {"task": "vary"}, "missing"),
        ({"image": b""}, {}, "invalid_image"),
        ({"image": b"GIF89a" + bytes(50)}, {}, "invalid_image"),
        ({"image": b"%PDF-1.4"}, {}, "invalid_image"),
        ({"image": bomb(50_000, 50_000)}, {}, "image_too_large"),
        ({"image": bomb(5_000, 5_000)}, {}, "image_too_large"),
        ({"image": bomb(4_000, 4_000)}, {}, "invalid_image"),
        ({"image": b"", "mask": b"x"}, {}, "invalid_image"),
        ({"image": 1, "mask": b"x"}, {}, "invalid_image"),
        ({"image": 1, "mask": bomb(50_000, 50_000)}, {}, "image_too_large"),
        ({"image": 1}, {"task": "paint"}, "unknown_task"),
        ({"image": 1}, {"colour": "1"}, "unknown_field"),
        ({"image": 1}, {"n": "17"}, "too_many"),
        ({"image": 1}, {"n": "x"}, "invalid_value"),
        ({"image": 1}, {"strength": "2"}, "invalid_value"),
        ({"image": 1}, {"strength": "nan"}, "invalid_value"),
        ({"image": 1}, {"num_inference_steps": "65"}, None),
        ({"image": 1}, {"options": "[1]"}, "invalid_json"),
        ({"image": 1}, {"options": "{" * 5000}, "invalid_json"),
        ({"image": 1}, {"options": '{"operator": 1}'}, "unknown_field"),
        ({"image": 1}, {"task": "deblur", "options": '{"kernel": "kernel.npy"}'}, "invalid_value"),
        ({"image": 1}, {"task": "deblur", "options": '{"kernel": "gaussian:1e9"}'}, "invalid_value"),
        ({"image": 1}, {"task": "deblur", "options": '{"kernel": "gaussian:99"}'}, "invalid_value"),
        ({"image": 1}, {"task": "deblur", "options": json.dumps({"kernel": "x" * 9000})}, "invalid_value"),
        ({"image": 1}, {"task": "inpaint", "options": '{"mask": "/etc/passwd"}'}, "invalid_value"),
        ({"image": 1}, {"task": "inpaint", "options": '{"mask": "mask.png"}'}, "invalid_value"),
        ({"image": 1}, {"task": "upscale", "options": '{"factor": 1e-9}'}, "invalid_value"),
        ({"image": 1}, {"task": "upscale", "options": '{"factor": 1e300}'}, "invalid_value"),
        ({"image": 1}, {"task": "upscale", "options": '{"factor": NaN}'}, "invalid_value"),
        ({"image": 1}, {"task": "interpolate", "options": '{"count": 2000000000}'}, "missing"),
        ({"image": 1}, {"task": "vary", "condition": '{"label": 99}'}, "invalid_value"),
        ({"image": 1}, {"model": "racing"}, "wrong_model"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(server, files, fields, code):
    sent = {name: picture() if content == 1 else content for name, content in files.items()}
    answer = edit(server, sent, **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == code, answer.text
    assert "/tmp" not in answer.text


def test_a_body_that_is_no_form(server):
    answer = server.client.post(ROUTE, json={"image": "x"})
    assert answer.status_code == 400
    answer = server.client.post(
        ROUTE, content=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
