"""Videos over HTTP: jobs that are looked after, and those that are waited for."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

import unistep
from loops import finish
from running_server import GRACE, limits, running
from unistep.core.action_fields import ActionField
from unistep.provenance import read_content
from unistep.serving.api import videos
from unistep.serving.api.errors import APIError
from unistep.serving.ray_app import Videos
from unistep.serving.settings import Limits, Settings

ROUTE = "/v1/videos"


def frames(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


def done(server, job: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + GRACE
    while job["status"] not in ("completed", "failed"):
        assert time.monotonic() < end
        time.sleep(0.01)
        job = server.client.get(f"{ROUTE}/{job['id']}").json()
    return job


def test_a_job_from_beginning_to_end(server):
    job = server.client.post(ROUTE, json={"model": "racing", "seed": 5, "seconds": 0.4, "prompt": ""}).json()
    assert job["object"] == "video"
    assert job["status"] in ("queued", "in_progress", "completed")
    job = done(server, job)
    assert (job["status"], job["progress"], job["seed"], job["size"]) == ("completed", 100, 5, "16x16")
    answer = server.client.get(f"{ROUTE}/{job['id']}/content")
    assert answer.headers["content-type"] == "video/mp4"
    assert frames(answer.content).shape == (10, 16, 16, 3)
    mark = read_content(answer.content).mark
    assert mark is not None
    assert (mark.model, mark.seed) == ("racing", "5")
    deleted = server.client.delete(f"{ROUTE}/{job['id']}").json()
    assert deleted == {"id": job["id"], "object": "video.deleted", "deleted": True}
    for route in (f"{ROUTE}/{job['id']}", f"{ROUTE}/{job['id']}/content"):
        assert server.client.get(route).status_code == 404
    assert server.client.delete(f"{ROUTE}/{job['id']}").status_code == 404


def test_actions_are_played_frame_by_frame(server, models):
    """Each frame has its own action, however soon the network goes on to the next; gif keeps what video blurs."""
    actions: list[Any] = ["left", "gas", [1, 0.5], "none", "right+gas", "left"]
    body = {"seed": 3, "seconds": 0.24, "actions": actions, "output_format": "gif"}
    first, again = (server.client.post(f"{ROUTE}/sync", json=body) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.headers["content-type"] == "image/gif"
    assert first.content == again.content
    assert read_content(first.content).generated
    session = unistep.load(models[3]).session()
    state, expected = session.start([3]), []
    generator = unistep.load(models[3])
    spec = generator.config.fields["action"]
    for action in actions:
        state, signal = session.step(state, {"action": spec.from_json("action", action)})
        expected.append(np.asarray(((signal[0] + 1) * 127.5).clamp(0, 255)).reshape(3, 16, 16).transpose(1, 2, 0))
    found = frames(first.content)
    assert found.shape == (6, 16, 16, 3)
    distances = [[np.abs(a - b).mean() for b in expected] for a in found]
    assert np.argmin(distances, axis=1).tolist() == list(range(6))


def test_no_more_actions_are_read_than_are_played_and_not_in_the_event_loop(server, monkeypatch):
    read, threads = ActionField.from_json, []

    def watched(spec: ActionField, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read(spec, *arguments)

    monkeypatch.setattr(ActionField, "from_json", watched)
    body = {"model": "racing", "seconds": 0.08, "actions": ["left+gas"] * 50_000}
    job = server.client.post(ROUTE, json=body)
    assert job.status_code == 200, job.text
    assert done(server, job.json())["status"] == "completed"
    assert len(threads) == 4  # two actions, once when they are asked for and once where they are played
    assert {thread.partition("_")[0] for thread in threads} == {"unistep-encode", "unistep-prepare"}


def test_forms_are_taken_as_openais_client_sends_them(server):
    answer = server.client.post(ROUTE, data={"model": "racing", "seconds": "0.08", "actions": '["left"]'})
    assert answer.status_code == 200, answer.text
    assert done(server, answer.json())["seconds"] == "0.08"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"model": "fashion"}, "use racing"),
        ({"seconds": 61}, "60 s here"),
        ({"seconds": 0}, "greater"),
        ({"size": "64x64"}, "16x16"),
        ({"prompt": "a road"}, "takes no prompt"),
        ({"actions": ["fly"]}, "action must be"),
        ({"actions": [[9, 9]]}, "action must be"),
        ({"actions": [["a", None]]}, "action must be"),
        ({"actions": "left"}, "actions"),
        ({"condition": {"action": [0, 1, 2]}}, "action must be"),
        ({"output_format": "avi"}, "mp4"),
        ({"fps": 50}, "no field 'fps'"),
        ({"guidance_scale": 3}, "one-step"),
        ({"num_inference_steps": 65}, "at most 64"),
    ],
)
def test_a_mistake_is_named(server, body, part):
    for route in (ROUTE, f"{ROUTE}/sync"):
        answer = server.client.post(route, json=body)
        assert answer.status_code == 400, answer.text
        assert part in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b'"x"'], ids=range(5))
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data"])
def test_what_is_no_request_is_no_defect(server, content, kind):
    answer = server.client.post(ROUTE, content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_video_is_seen_by_nobody_else_and_there_are_so_many(models):
    keys = ("first-key-of-the-tests", "other-key-of-the-tests")
    settings = Settings(models=models, threads=1, backend="eager", keys=keys, limits=limits(jobs=2, seconds=60.0))
    first, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    with running(settings) as server:
        long = {"seconds": 60, "model": "racing"}
        jobs = [server.client.post(ROUTE, json=long, headers=first).json() for _ in range(2)]
        assert server.client.get(f"{ROUTE}/{jobs[0]['id']}", headers=first).status_code == 200
        for method in ("GET", "DELETE"):
            assert server.client.request(method, f"{ROUTE}/{jobs[0]['id']}", headers=other).status_code == 404
        full = server.client.post(ROUTE, json=long, headers=other)
        assert full.status_code == 503
        assert int(full.headers["retry-after"]) >= 1
        early = server.client.get(f"{ROUTE}/{jobs[0]['id']}/content", headers=first)
        assert early.status_code == 404
        for job in jobs:  # which stops them
            assert server.client.delete(f"{ROUTE}/{job['id']}", headers=first).status_code == 200
        assert server.client.post(f"{ROUTE}/sync", json={"seconds": 0.04}, headers=other).status_code == 200


def test_one_client_makes_so_many_at_a_time_and_loses_its_own_old_ones_first(models):
    keys = ("first-key-of-the-tests", "other-key-of-the-tests")
    bounds = limits(jobs=3, jobs_per_client=2, seconds=60.0)
    settings = Settings(models=models, threads=1, backend="eager", keys=keys, limits=bounds)
    first, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    with running(settings) as server:
        short, long = {"seconds": 0.04, "model": "racing"}, {"seconds": 60, "model": "racing"}

        def made(headers: dict[str, str]) -> str:
            job = server.client.post(ROUTE, json=short, headers=headers).json()
            while server.client.get(f"{ROUTE}/{job['id']}", headers=headers).json()["status"] != "completed":
                time.sleep(0.02)
            return job["id"]

        kept, old = made(other), made(first)
        busy = [server.client.post(ROUTE, json=long, headers=first).json()["id"] for _ in range(2)]
        assert server.client.get(f"{ROUTE}/{kept}", headers=other).status_code == 200
        assert server.client.get(f"{ROUTE}/{old}", headers=first).status_code == 404
        refused = server.client.post(ROUTE, json=long, headers=first)
        assert refused.status_code == 429
        assert refused.json()["error"]["message"] == "2 videos of yours are being made already"
        assert int(refused.headers["retry-after"]) >= 1
        for name in busy:
            assert server.client.delete(f"{ROUTE}/{name}", headers=first).status_code == 200


def test_a_finished_video_is_kept_for_so_long(replicas, monkeypatch):
    """Those of others that are kept for too long go before one's own."""
    now, made = [1000.0], []

    async def make(service: Any, job: Any) -> bytes:
        made.append(job.id)
        return b"file"

    monkeypatch.setattr(videos, "made", make)
    monkeypatch.setattr(videos, "time", SimpleNamespace(time=lambda: now[0]))

    async def several() -> None:
        jobs, other, old = replicas(limits(jobs=2, job_seconds=60.0))
        old.client, old.created = "somebody", now[0]
        await jobs.add(old)
        await old.task
        now[0] += 50
        mine = replace(old, id="video_mine", client="me", task=None, completed=None, content=None)
        await jobs.add(mine)
        await mine.task
        for replica in (jobs, other):
            assert (await replica.get(old.id, "somebody"))[1] == (b"file", "video/mp4")
        now[0] += 20
        for replica in (jobs, other):
            with pytest.raises(APIError, match="there is no video"):
                await replica.get(old.id, "somebody")
        third = replace(mine, id="video_third", task=None, completed=None, content=None)
        await jobs.add(third)
        assert (await jobs.get(mine.id, "me"))[1] is not None
        await third.task

    finish(several())


class Far:
    """What is said over a network that takes its time."""

    def __init__(self) -> None:
        self.videos = Videos()

    async def put(self, *said: Any) -> bool:
        await asyncio.sleep(0.05)
        return self.videos.put(*said)

    async def get(self, name: str) -> Any:
        return self.videos.get(name)

    async def remove(self, name: str) -> None:
        self.videos.remove(name)


@pytest.fixture
def replicas():
    """Videos of two replicas, and a video to make."""
    config = SimpleNamespace(modality=SimpleNamespace(media_types={"mp4": "video/mp4"}))
    pool = SimpleNamespace(config=lambda name: config)
    asked: Any = SimpleNamespace(model="racing", seed=5)

    def made(bounds: Limits | None = None) -> tuple[videos.Jobs, videos.Jobs, videos.Job]:
        service: Any = SimpleNamespace(settings=SimpleNamespace(limits=bounds or Limits()), pool=pool)
        board = Far()
        job = videos.Job(asked=asked, conditions=(), seconds=1.0, size="16x16", format="mp4", client="me")
        return videos.Jobs(service, board), videos.Jobs(service, board), job

    return made


def test_a_video_is_known_to_every_replica_before_its_client_is_answered(replicas, monkeypatch):
    async def make(service: Any, job: Any) -> bytes:
        return await asyncio.Event().wait() and b""

    monkeypatch.setattr(videos, "made", make)

    async def both() -> None:
        one, other, job = replicas()
        await one.add(job)
        body, _ = await other.get(job.id, "me")
        assert body["status"] == "queued"
        await one.remove(job.id, "me")

    finish(both())


def test_a_finished_video_that_one_replica_forgets_is_forgotten_by_all(replicas, monkeypatch):
    async def make(service: Any, job: Any) -> bytes:
        return b"file"

    monkeypatch.setattr(videos, "made", make)

    async def both() -> None:
        one, other, job = replicas()
        await one.add(job)
        await job.task
        for replica in (one, other):
            body, content = await replica.get(job.id, "me")
            assert (body["status"], content) == ("completed", (b"file", "video/mp4"))
        await other.remove(job.id, "me")
        for replica in (one, other):
            with pytest.raises(APIError):
                await replica.get(job.id, "me")

    finish(both())
