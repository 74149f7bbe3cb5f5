"""Videos: ``/v1/videos``, jobs that are looked after, and ``/v1/videos/sync``."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Protocol

import torch
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from torch import Tensor

from unistep.core.condition import asked as asked_fields
from unistep.serving.api.errors import RESPONSES, APIError, as_api_error
from unistep.serving.api.routing import asked_of, check_size, in_time, model_of, note, service_of, size_of, words_of
from unistep.serving.api.schemas import VideoJob, VideoRequest
from unistep.serving.described import chunk_seconds
from unistep.serving.files import encode
from unistep.serving.reading import chunks_of
from unistep.serving.service import Asked, Service

router = APIRouter()

VIDEO: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {
        "description": "The video.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("video/mp4", "video/webm", "image/gif")
        },
    },
}
TELL = 0.5
"""Seconds from one message to other replicas to the next."""
JOB: dict[int | str, dict[str, Any]] = {**RESPONSES, 200: {"model": VideoJob, "description": "The job."}}


@dataclass(kw_only=True, eq=False)
class Job:
    """A video that is made, or was, or failed."""

    asked: Asked
    """What was asked for."""
    conditions: Sequence[Mapping[str, Any]]
    """The condition of each chunk of a streaming model; the last one holds for all that follow."""
    seconds: float
    """How long it is."""
    size: str
    """Width and height."""
    format: str
    """Of the file."""
    client: str
    """Who asked."""
    id: str = field(default_factory=lambda: f"video_{secrets.token_hex(12)}")
    """Its name."""
    created: float = field(default_factory=time.time)
    """When it was asked for."""
    completed: float | None = None
    """When it was done."""
    progress: float = 0.0
    """The share that is done."""
    content: bytes | None = None
    """The file."""
    error: APIError | None = None
    """Why there is none."""
    task: asyncio.Task[None] | None = None
    """Makes it."""

    @property
    def body(self) -> dict[str, Any]:
        """What clients see of it."""
        status = "queued" if self.progress == 0 else "in_progress"
        if self.completed is not None:
            status = "completed" if self.error is None else "failed"
        return {
            "id": self.id, "object": "video", "model": self.asked.model, "status": status,
            "progress": int(100 * self.progress), "created_at": int(self.created),
            "completed_at": None if self.completed is None else int(self.completed), "seconds": f"{self.seconds:g}",
            "size": self.size, "seed": self.asked.seed,
            "error": None if self.error is None else self.error.body["error"],
        }  # fmt: skip


class Board(Protocol):
    """Where several replicas of a server see each other's videos."""

    async def put(self, name: str, client: str, body: dict[str, Any], content: tuple[bytes, str] | None) -> bool:
        """Say how far a video is; returns whether it is still wanted."""
        ...

    async def get(self, name: str) -> tuple[str, dict[str, Any], tuple[bytes, str] | None] | None:
        """Whose a video is, how far it is, and its file with the media type; ``None`` where there is none."""
        ...

    async def remove(self, name: str) -> None:
        """Forget a video."""
        ...


class Jobs:
    """The videos of a server; each is seen only by who asked for it.

    Args:
        service: The service.
        board: What it shares with other replicas.
    """

    def __init__(self, service: Service, board: Board | None = None) -> None:
        self._service, self._board = service, board
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    async def add(self, job: Job) -> None:
        """Begin a job; once this returns, every replica knows of it.

        Raises:
            APIError: If there are too many.
        """
        limits = self._service.settings.limits
        await self._forget_expired()
        own = sum(one.client == job.client and one.completed is None for one in self._jobs.values())
        if own >= limits.jobs_per_client:
            raise APIError(429, f"{own} videos of yours are being made already", code="rate_limit_exceeded", retry=5.0)
        done = [one for one in self._jobs.values() if one.completed is not None]
        done.sort(key=lambda one: one.client != job.client)  # whoever asks for many loses one's own first
        for old in done[: max(len(self._jobs) - limits.jobs + 1, 0)]:
            del self._jobs[old.id]
        if len(self._jobs) >= limits.jobs:
            raise APIError(503, f"{len(self._jobs)} videos are being made already", code="overloaded", retry=5.0)
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._make(job))
        if self._board is not None:
            await self._board.put(job.id, job.client, job.body, None)

    async def _forget_expired(self) -> None:
        """Forget the videos that were kept for long enough."""
        for job in [one for one in self._jobs.values() if self._is_expired(one.completed)]:
            self._jobs.pop(job.id, None)
            if self._board is not None:
                await self._board.remove(job.id)

    def _is_expired(self, completed: float | None) -> bool:
        """Whether a video that was done then, if it is, was kept for long enough."""
        return completed is not None and time.time() - completed > self._service.settings.limits.job_seconds

    async def _make(self, job: Job) -> None:
        telling = None if self._board is None else asyncio.create_task(self._tell(job, self._board))
        try:
            job.content = await made(self._service, job)
            job.progress = 1.0
        except Exception as error:
            job.error = as_api_error(error)
        job.completed = time.time()
        if telling is not None:
            telling.cancel()
            assert self._board is not None
            await self._board.put(job.id, job.client, job.body, self.file(job))

    async def _tell(self, job: Job, board: Board) -> None:
        """Tell the other replicas how far a video is, and stop it where one of them was asked to."""
        while await board.put(job.id, job.client, job.body, None):
            await asyncio.sleep(TELL)
        self._drop(job)

    def file(self, job: Job) -> tuple[bytes, str] | None:
        """The file of a finished video, and its media type."""
        if job.content is None:
            return None
        return job.content, self._service.pool.config(job.asked.model).modality.media_types[job.format]

    async def get(self, name: str, client: str) -> tuple[dict[str, Any], tuple[bytes, str] | None]:
        """What a client sees of a video, and its file with the media type once there is one.

        Raises:
            APIError: If this client has no such video.
        """
        await self._forget_expired()
        if self._board is None:
            job = self._jobs.get(name)
            found = None if job is None else (job.client, job.body, self.file(job))
        else:  # also of one's own: another replica may have been asked to forget it
            found = await self._board.get(name)
        if found is None or found[0] != client or self._is_expired(found[1]["completed_at"]):
            raise APIError(404, f"there is no video {name[:40]!r}", param="video_id", code="not_found")
        return found[1], found[2]

    async def remove(self, name: str, client: str) -> None:
        """Stop a video and forget it.

        Raises:
            APIError: If this client has no such video.
        """
        await self.get(name, client)
        job = self._jobs.get(name)
        if job is not None:
            self._drop(job)
        if self._board is not None:
            await self._board.remove(name)

    def _drop(self, job: Job) -> None:
        if job.task is not None:
            job.task.cancel()
        self._jobs.pop(job.id, None)


async def made(service: Service, job: Job) -> bytes:
    """The file of a video."""
    asked, config = job.asked, service.pool.config(job.asked.model)
    if config.context is None:
        (item,) = await service.sample(asked, deadline=float("inf"))
        signal, provenance = item.signal, item.provenance
    else:
        count = round(job.seconds / chunk_seconds(config))
        parts: list[Tensor] = []
        conditions = list(job.conditions)
        async for chunk in chunks_of(service, asked, count, conditions):
            parts.append(chunk.signal)
            job.progress = min(0.95, len(parts) / count)
        signal = torch.cat(parts, dim=config.modality.layout.time - 1)  # type: ignore[operator]
        provenance = service.origin(asked.model, asked.seed or 0)
    marked = provenance if service.settings.marked else None
    return await service.encode(encode, config.modality, signal, job.format, marked)


async def _job(service: Service, body: VideoRequest, request: Request) -> Job:
    """The job of a request.

    Raises:
        APIError: For a mistake in it.
    """
    model = model_of(service, body.model, "video")
    check_size(service, model, body.size)
    config = service.pool.config(model)
    condition = words_of(service, model, body.prompt, body.condition)
    service.condition(model, condition)
    note(request, model=model, **({"prompt": body.prompt} if service.settings.log_prompts else {}))
    asked, conditions = asked_of(request, body, model, condition), []
    asked = replace(asked, seed=service.seed_of(asked))
    own = config.modality.seconds or 0.0
    length = own if body.seconds is None else body.seconds
    most = service.settings.limits.seconds if config.context is not None else own
    if length > most + 1e-9 or (config.context is None and length < own - 1e-9):
        which = f"{own:g} s" if config.context is None else f"up to {most:g} s"
        raise APIError(
            400, f"{model} makes videos of {which} here, got {length:g}", param="seconds", code="wrong_length"
        )
    if config.context is not None:
        chunk = chunk_seconds(config)
        count = max(1, math.ceil(length / chunk - 1e-9))
        length = count * chunk
        # Not in the event loop, which a minute of actions would keep from everything else.
        actions = None if body.actions is None else body.actions[:count]
        conditions = await service.encode(_per_chunk, service, model, condition, actions)
    elif body.actions is not None:
        raise APIError(400, f"{model} takes no actions", param="actions", code="unsupported")
    client = request.scope["state"]["client"]
    size = size_of(service, model)
    return Job(
        asked=asked, conditions=conditions, seconds=length, size=size, format=body.output_format, client=client
    )  # fmt: skip


def _per_chunk(
    service: Service, model: str, condition: Mapping[str, Any], actions: list[Any] | None
) -> Sequence[Mapping[str, Any]]:
    """The condition of each chunk."""
    if actions is None:
        return [condition]
    played = [name for name, spec in asked_fields(service.pool.config(model).fields).items() if spec.played]
    if not played:
        raise APIError(400, f"{model} takes no actions", param="actions", code="unsupported")
    found = [{**condition, played[0]: action} for action in actions]
    for one in found:
        service.condition(model, one)
    return found or [condition]


async def body_of(request: Request) -> VideoRequest:
    """The request: JSON, or a form as OpenAI's clients send it.

    Raises:
        RequestValidationError: If it is none.
    """
    try:
        if request.headers.get("content-type", "").startswith(
            ("multipart/form-data", "application/x-www-form-urlencoded")
        ):
            async with request.form() as form:
                found: Any = {name: _json_or_text(name, value) for name, value in form.items()}
        else:
            found = await request.json()
    except (ValueError, RecursionError):
        raise APIError(400, "the body is neither JSON nor a form", code="invalid_json") from None
    try:
        return VideoRequest.model_validate(found)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def _json_or_text(name: str, value: Any) -> Any:
    """A field of a form; objects and lists are JSON."""
    return json.loads(value) if name in ("condition", "actions") and isinstance(value, str) else value


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": VideoRequest.model_json_schema(ref_template="#/components/schemas/{model}")}
        },
    }
}
"""The body, for the documentation."""


@router.post("/v1/videos", responses=JOB, response_model=None, openapi_extra=BODY)
async def create(body: Annotated[VideoRequest, Depends(body_of)], request: Request) -> Response:
    """Begin to make a video."""
    job = await _job(service_of(request), body, request)
    await service_of(request).check(job.asked)
    await jobs(request).add(job)
    return JSONResponse(job.body)


@router.post("/v1/videos/sync", responses=VIDEO, response_model=None, openapi_extra=BODY)
async def at_once(body: Annotated[VideoRequest, Depends(body_of)], request: Request) -> Response:
    """Make a video, and wait for it."""
    service = service_of(request)
    job = await _job(service, body, request)
    with request.app.state.places.take(job.client):
        begin = partial(made, service, job)
        job.content = await in_time(request, job.asked, begin, "POST /v1/videos makes it while you poll")
    return _file(jobs(request).file(job), job.asked.seed)


def _file(found: tuple[bytes, str] | None, seed: int | None) -> Response:
    if found is None:
        raise APIError(404, "the video is not done", code="not_ready", retry=1.0)
    return Response(found[0], media_type=found[1], headers={"X-Seed": str(seed), "Cache-Control": "no-store"})


def jobs(request: Request) -> Jobs:
    """The server's jobs."""
    return request.app.state.jobs


@router.get("/v1/videos/{video_id}", responses=JOB, response_model=None)
async def poll(video_id: str, request: Request) -> Response:
    """How far a video is."""
    body, _ = await jobs(request).get(video_id, request.scope["state"]["client"])
    return JSONResponse(body)


@router.get("/v1/videos/{video_id}/content", responses=VIDEO, response_model=None)
async def content(video_id: str, request: Request) -> Response:
    """The file of a video."""
    body, found = await jobs(request).get(video_id, request.scope["state"]["client"])
    if body["error"] is not None:
        raise APIError(404, f"the video failed: {body['error']['message']}", code=body["error"]["code"])
    return _file(found, body["seed"])


@router.delete("/v1/videos/{video_id}", responses=dict(RESPONSES))
async def remove(video_id: str, request: Request) -> dict[str, Any]:
    """Stop a video, or forget it."""
    await jobs(request).remove(video_id, request.scope["state"]["client"])
    return {"id": video_id, "object": "video.deleted", "deleted": True}
