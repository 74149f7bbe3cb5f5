"""What routes share: which model is meant, how words become conditions, and requests that end when clients leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request

from unistep.core.condition import asked
from unistep.serving.api.errors import APIError
from unistep.serving.caller import Caller
from unistep.serving.jobs import LateError
from unistep.serving.service import Asked, Service

if TYPE_CHECKING:
    from unistep.serving.api.schemas import Sampling

T = TypeVar("T")

LOOK = 0.25
"""Seconds from one look at whether a client is still there to the next."""


def service_of(request: Any) -> Service:
    """The server's service."""
    return request.app.state.service


def model_of(service: Service, name: str | None, media: str, *, streams: bool | None = None) -> str:
    """The model that is meant.

    Args:
        service: The service.
        name: Its name; the first that fits without.
        media: What it must make, such as ``image``.
        streams: Whether it must stream, or must not.

    Raises:
        APIError: If there is none, or it makes something else.
    """
    configs = service.pool.configs
    fitting = [
        one
        for one, config in configs.items()
        if config.modality.media == media and streams in (None, config.context is not None)
    ]
    if name is None:
        if not fitting:
            raise APIError(404, f"this server has no model of {media}s", param="model", code="model_not_found")
        return fitting[0]
    config = service.pool.config(name)
    if name not in fitting:
        does = f"makes {config.modality.noun}s" + ("" if config.context is None else " that stream")
        hint = f"; use {', '.join(fitting)}" if fitting else ""
        raise APIError(400, f"{name} {does}{hint}", param="model", code="wrong_model")
    return name


def words_of(service: Service, model: str, text: str, condition: Mapping[str, Any], param: str = "prompt") -> dict:
    """A condition with a text in the first field that takes words and is not given.

    Raises:
        APIError: If there is no such field, or the text is too long.
    """
    if not text.strip():
        return dict(condition)
    most = service.settings.limits.text
    if len(text) > most:
        raise APIError(400, f"{param} may have {most:,} characters, got {len(text):,}", param=param, code="too_long")
    fields = asked(service.pool.config(model).fields)
    free = [name for name, spec in fields.items() if spec.takes_words and condition.get(name) is None]
    if not free:
        taken = ", ".join(fields) or "no condition"
        raise APIError(400, f"{model} takes no {param}; it takes {taken}", param=param, code="no_prompt")
    return {**condition, free[0]: text}


def caller_of(request: Any) -> Caller:
    """Who sends a request."""
    return request.scope["state"]["caller"]


def asked_of(request: Any, body: Sampling, model: str, condition: Mapping[str, Any], **more: Any) -> Asked:
    """What a body asks for."""
    return Asked(
        model=model, seed=body.seed, steps=body.num_inference_steps, guidance=body.guidance_scale, condition=condition,
        caller=caller_of(request), **more,
    )  # fmt: skip


def check_count(service: Service, count: int, param: str = "n") -> None:
    """Refuse more items than one request may have."""
    most = service.settings.limits.items
    if count > most:
        raise APIError(400, f"{param} may be at most {most}, got {count}", param=param, code="too_many")


def check_size(service: Service, model: str, size: str | None) -> None:
    """Refuse a size that is not the model's own."""
    own = size_of(service, model)
    if size not in (None, "auto", own):
        raise APIError(
            400, f"{model} makes pictures of {own}, got {size[:20]!r}; use auto", param="size", code="wrong_size"
        )


def size_of(service: Service, model: str) -> str:
    """Width and height of what a model makes, such as ``64x64``."""
    height, width = service.pool.config(model).modality.shape[-2:]
    return f"{width}x{height}"


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What work gives, cancelled once the client has left.

    Raises:
        APIError: If it has.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK)
            if not task.done() and await request.is_disconnected():
                raise APIError(499, "the client has left", code="client_closed")
        return task.result()
    finally:
        task.cancel()


async def in_time(request: Request, wanted: Asked, begin: Callable[[], Coroutine[Any, Any, T]], remedy: str) -> T:
    """What work gives by the time when its request must be answered: that of a stream, whose chunks have no deadline.

    Args:
        request: The request.
        wanted: What it asks for.
        begin: Begins the work, once the model is there.
        remedy: What the client may do where there is not enough time.

    Raises:
        APIError: If the client has left.
        BusyError: If the model is being loaded.
        LateError: If it takes too long.
    """
    service = service_of(request)
    until = min(time.monotonic() + service.settings.limits.timeout, wanted.caller.deadline)
    await while_there(request, service.check(wanted))
    try:
        async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
            return await while_there(request, begin())
    except TimeoutError:
        service.metrics.late.inc()
        raise LateError(f"not done within {service.settings.limits.timeout:g} s; {remedy}") from None


async def placed(request: Request, chunks: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The chunks of a stream, which takes one of its client's places meanwhile.

    Raises:
        APIError: If there is none.
    """
    with request.app.state.places.take(request.scope["state"]["client"]):
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk


def note(request: Request, **known: Any) -> None:
    """Put more into the line of the log; of what people write only where the server may."""
    request.scope["state"].setdefault("noted", {}).update(known)
