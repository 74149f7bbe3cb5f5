"""Pictures over HTTP: the same as the model's own, in each of their forms, and nothing that is not known."""

from __future__ import annotations

import itertools
import json
import threading

import numpy as np
import pytest
import torch

import unistep
from running_server import pixels, until
from unistep.provenance import read_content
from unistep.serving.jobs import CallJob

ROUTE = "/v1/images/generations"


def events(text: str) -> list[tuple[str, dict]]:
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def test_pictures_are_those_of_the_seeds(server, models):
    answer = server.client.post(ROUTE, json={"model": "fashion", "prompt": "sneaker", "n": 3, "seed": 7})
    assert answer.status_code == 200
    body = answer.json()
    assert [one["seed"] for one in body["data"]] == [7, 8, 9]
    assert all(one["condition"] == {"label": "sneaker"} for one in body["data"])
    assert set(body["usage"]) == {"generation_ms", "queue_ms", "batch"}
    generator = unistep.load(models[0])
    expected = generator.sample(3, seed=7, label="sneaker")
    for one, signal in zip(body["data"], expected, strict=True):
        values = np.asarray(((signal[0] + 1) * 127.5).round().clamp(0, 255))
        assert np.abs(pixels(one["b64_json"])[..., 0] - values).max() <= 1  # a rounding of the last bit


def test_one_picture_comes_as_the_file_itself(server):
    whole = server.client.post(ROUTE, json={"model": "fashion", "seed": 4}).json()["data"][0]
    answer = server.client.post(ROUTE, json={"model": "fashion", "seed": 4}, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-seed"] == "4"
    assert float(answer.headers["x-generation-ms"]) > 0
    assert answer.headers["cache-control"] == "no-store"
    assert (pixels(answer.content) == pixels(whole["b64_json"])).all()


@pytest.mark.parametrize(("format", "first"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
def test_each_format_says_that_a_model_made_it(server, format, first):
    body = {"model": "fashion", "seed": 11, "prompt": "bag", "output_format": format}
    content = server.client.post(ROUTE, json=body, headers={"Accept": "image/*"}).content
    assert content.startswith(first)
    mark = read_content(content).mark
    assert mark is not None
    assert mark.generated
    assert (mark.model, mark.seed, mark.condition) == ("fashion", "11", {"label": "bag"})
    assert mark.model_hash == server.service.pool.get("fashion").model_hash


def test_quality_is_that_of_the_file(server):
    body = {"model": "fashion", "seed": 1, "output_format": "jpeg"}
    sizes = [
        len(server.client.post(ROUTE, json={**body, "output_compression": q}, headers={"Accept": "image/jpeg"}).content)
        for q in (5, 95)
    ]
    assert sizes[0] < sizes[1]


def test_a_seed_is_drawn_and_returned(server):
    first, second = (server.client.post(ROUTE, json={"model": "fashion"}).json()["data"][0] for _ in range(2))
    assert first["seed"] != second["seed"]
    again = server.client.post(ROUTE, json={"seed": first["seed"]}).json()["data"][0]
    assert again == first


def test_steps_and_walks_are_the_models_own(server, models):
    generator = unistep.load(models[0])
    one = {"seed": 3, "prompt": "boot"}
    plain, two = (server.client.post(ROUTE, json={**one, **more}).json()["data"][0]["b64_json"]
                  for more in ({}, {"num_inference_steps": 2}))  # fmt: skip
    assert (pixels(plain) != pixels(two)).any()
    walked = [
        server.client.post(ROUTE, json={**one, "toward": {"seed": 8, "share": share}}).json()["data"][0]["b64_json"]
        for share in (0.0, 0.5, 1.0)
    ]
    assert np.abs(pixels(walked[0]) - pixels(plain)).max() <= 1
    other = generator.sample(1, seed=8, label="boot")[0, 0]
    assert bool(np.all(np.abs(pixels(walked[2])[..., 0] - np.asarray((other + 1) * 127.5)) <= 1.6))
    assert (pixels(walked[1]) != pixels(walked[0])).any()


def test_events_show_the_steps_before_the_picture(server):
    body = {"model": "fashion", "seed": 2, "num_inference_steps": 4, "stream": True, "partial_images": 3}
    answer = server.client.post(ROUTE, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer.text)
    assert [name for name, _ in found] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [one.get("partial_image_index") for _, one in found] == [0, 1, 2, None]
    assert all(name == one["type"] for name, one in found)
    whole = server.client.post(ROUTE, json={"model": "fashion", "seed": 2, "num_inference_steps": 4}).json()
    assert np.abs(pixels(found[-1][1]["b64_json"]) - pixels(whole["data"][0]["b64_json"])).max() <= 1
    shown = [pixels(one["b64_json"]) for _, one in found]
    assert all((a != b).any() for a, b in itertools.pairwise(shown))
    assert found[-1][1]["seed"] == 2


def test_events_without_steps_are_the_picture_alone(server):
    found = events(server.client.post(ROUTE, json={"seed": 2, "stream": True}).text)
    assert [name for name, _ in found] == ["image_generation.completed"]


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        ({"style": "vivid"}, "style", "no field 'style'"),
        ({"n": 17}, "n", "at most 16"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": "two"}, "n", "integer"),
        ({"seed": -1}, "seed", "greater"),
        ({"seed": 2**64}, "seed", "less"),
        ({"seed": 1.5}, "seed", "integer"),
        ({"size": "1024x1024"}, "size", "28x28"),
        ({"prompt": "a cat"}, None, "label must be"),
        ({"prompt": "x" * 5000}, "prompt", "4,000 characters"),
        ({"condition": {"label": 10}}, None, "label must be"),
        ({"condition": {"colour": 1}}, None, "takes no 'colour'"),
        ({"condition": {"colour": None}}, None, "takes no 'colour'"),
        ({"condition": {"label": [1]}}, None, "label must be"),
        ({"condition": {"label": 2}, "prompt": "boot"}, "prompt", "takes no prompt"),
        ({"num_inference_steps": 100}, None, "at most 64 steps"),
        ({"guidance_scale": 2}, None, "one-step"),
        ({"toward": {"seed": 1, "share": 2}}, "toward.share", "less"),
        ({"output_format": "gif"}, "output_format", "png"),
        ({"response_format": "url"}, "response_format", "b64_json"),
        ({"stream": True, "n": 2}, "n", "one picture"),
        ({"stream": True, "prompt": "a cat"}, None, "label must be"),
        ({"model": "racing"}, "model", "use fashion"),
        ({"model": "notes"}, "model", "makes sounds"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(server, body, param, part):
    answer = server.client.post(ROUTE, json={"model": "fashion", **body})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert part in error["message"]
    assert "\n" not in error["message"]
    assert error["param"] == param


def test_an_unknown_model_is_named_with_the_nearest(server):
    answer = server.client.post(ROUTE, json={"model": "fashoin"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "fashion" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"n": NaN}', b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_request_is_no_defect(server, content):
    answer = server.client.post(ROUTE, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_requests_at_the_same_time_go_together(server):
    """Those that come while the network is busy are one batch."""
    served, entered, gate = server.service.pool.get("fashion"), threading.Event(), threading.Event()

    def wait(stop):
        del stop
        entered.set()
        assert gate.wait(60)
        return torch.zeros(1)

    job = CallJob(served=served, deadline=float("inf"), what="test", steps=1, items=1, call=wait)
    server.service.engine.submit(job)
    assert entered.wait(60)
    answers = {}

    def ask(seed: int) -> None:
        answers[seed] = server.client.post(ROUTE, json={"model": "fashion", "seed": seed})

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: server.service.engine.depth == 4)
    served.latencies.clear()  # however slow this machine is just now
    gate.set()
    for thread in threads:
        thread.join()
    assert [answer.json()["usage"]["batch"] for answer in answers.values()] == [4] * 4
    for seed, answer in answers.items():
        alone = server.client.post(ROUTE, json={"model": "fashion", "seed": seed}).json()["data"][0]["b64_json"]
        assert np.abs(pixels(answer.json()["data"][0]["b64_json"]) - pixels(alone)).max() <= 1


def test_models_say_what_they_take(server):
    found = {one["id"]: one["unistep"] for one in server.client.get("/v1/models").json()["data"]}
    assert set(found) == {"fashion", "notes", "phrases", "racing"}
    assert {name: one["modality"] for name, one in found.items()} == {
        "fashion": "image", "notes": "audio", "phrases": "audio", "racing": "video"
    }  # fmt: skip
    assert [name for name, one in found.items() if one["streams"]] == ["phrases", "racing"]
    assert found["fashion"]["shape"] == [1, 28, 28]
    assert found["fashion"]["fields"]["label"]["names"][7] == "sneaker"
    assert {"inpaint", "upscale", "vary", "sketch"} <= set(found["fashion"]["tasks"])
    assert found["racing"]["fields"]["action"]["presets"]["left"] == [-1, 0]
    assert server.client.get("/v1/models/notes").json()["id"] == "notes"
    assert server.client.get("/v1/models/owner/name").status_code == 404
