"""OpenAI's own client, pointed at this server."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest

from running_server import GRACE, pixels, png


@pytest.fixture(scope="module")
def openai() -> Any:
    """Imported by the process that runs these tests, as it takes seconds."""
    return pytest.importorskip("openai", reason="OpenAI's client is not installed")


@pytest.fixture(scope="module")
def client(server, openai) -> Any:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", timeout=GRACE) as found:
        yield found


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["fashion", "notes", "phrases", "racing"]
    assert client.models.retrieve("notes").owned_by == "unistep"


def test_pictures_are_made(client):
    answer = client.images.generate(model="fashion", prompt="sneaker", n=2, size="auto", extra_body={"seed": 4})
    assert [pixels(one.b64_json).shape for one in answer.data] == [(28, 28, 3)] * 2
    assert answer.output_format == "png"


def test_pictures_come_as_events(client):
    events = list(
        client.images.generate(
            model="fashion", prompt="bag", stream=True, partial_images=1, extra_body={"num_inference_steps": 2}
        )
    )
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert all(pixels(event.b64_json).shape == (28, 28, 3) for event in events)


def test_pictures_are_edited(client):
    mask = io.BytesIO(png((28, 28), "RGBA", (0, 0, 0, 0)))
    mask.name = "mask.png"
    picture = io.BytesIO(png())
    picture.name = "image.png"
    answer = client.images.edit(model="fashion", image=picture, mask=mask, prompt="boot")
    assert pixels(answer.data[0].b64_json).shape == (28, 28, 3)
    answer = client.images.edit(model="fashion", image=[io.BytesIO(png())], prompt="", extra_body={"task": "vary"})
    assert base64.b64decode(answer.data[0].b64_json).startswith(b"\x89PNG")


def test_notes_are_said(client):
    answer = client.audio.speech.create(model="phrases", voice="harp", input="C4 E4", response_format="pcm")
    assert np.frombuffer(answer.content, "<i2").shape == (1024,)


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # whose shape this server keeps
def test_videos_are_waited_for(client):
    video = client.videos.create_and_poll(model="racing", prompt="", poll_interval_ms=20)
    assert video.status == "completed"
    assert b"ftyp" in client.videos.download_content(video.id).read()[:16]
    assert client.videos.delete(video.id).deleted


def test_mistakes_are_the_clients_own_errors(openai, client):
    with pytest.raises(openai.BadRequestError, match="label must be"):
        client.images.generate(model="fashion", prompt="a cat")
    with pytest.raises(openai.NotFoundError, match="fashion"):
        client.images.generate(model="fashoin", prompt="")
