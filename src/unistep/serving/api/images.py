"""Pictures: ``/v1/images/generations`` and ``/v1/images/edits``."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from torch import Tensor

from unistep.provenance import Provenance
from unistep.serving.api.errors import RESPONSES, APIError, as_api_error
from unistep.serving.api.routing import (
    asked_of,
    check_count,
    check_size,
    model_of,
    note,
    service_of,
    while_there,
    words_of,
)
from unistep.serving.api.schemas import ImageRequest, ImagesAnswer
from unistep.serving.files import encode
from unistep.serving.service import Asked, Item, Service

router = APIRouter()

RAW: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {
        "model": ImagesAnswer,
        "description": "The pictures; one as the file itself for `Accept: image/*`; events for `stream`.",
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
            "image/webp": {"schema": {"type": "string", "format": "binary"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
}


@router.post("/v1/images/generations", responses=RAW, response_model=None)
async def generations(body: ImageRequest, request: Request) -> Response:
    """Make pictures."""
    service = service_of(request)
    model = model_of(service, body.model, "image")
    check_count(service, body.n)
    check_size(service, model, body.size)
    condition = words_of(service, model, body.prompt, body.condition)
    note(request, model=model, n=body.n, **({"prompt": body.prompt} if service.settings.log_prompts else {}))
    toward = None if body.toward is None else (body.toward.seed, body.toward.share)
    asked = asked_of(request, body, model, condition, items=body.n, toward=toward)
    if body.stream:
        return await _events(request, service, asked, body)
    items = await while_there(request, service.sample(asked))
    return await answer(request, service, items, body.output_format, body.output_compression)


def wants_file(request: Request) -> bool:
    """Whether the client wants a file itself rather than JSON."""
    accepted = request.headers.get("accept", "")
    return "image/" in accepted and "application/json" not in accepted and "*/*" not in accepted


async def encoded(
    service: Service, provenance: Provenance, signal: Tensor, format: str, quality: int | None = None
) -> bytes:
    """The file of a signal."""
    modality = service.pool.config(provenance.model).modality
    marked = provenance if service.settings.marked else None
    return await service.encode(encode, modality, signal, format, marked, quality)


async def answer(
    request: Request, service: Service, items: Sequence[Item], format: str, quality: int | None = None
) -> Response:
    """The answer that has pictures."""
    files = await asyncio.gather(*(encoded(service, item.provenance, item.signal, format, quality) for item in items))
    done = items[0].done
    if len(items) == 1 and wants_file(request):
        headers = {
            "X-Seed": str(items[0].seed),
            "X-Generation-Ms": f"{1e3 * done.took:.2f}",
            "X-Queue-Ms": f"{1e3 * done.waited:.2f}",
            "Cache-Control": "no-store",
        }
        return Response(files[0], media_type=f"image/{format}", headers=headers)
    return JSONResponse(
        {
            "created": int(time.time()),
            "output_format": format,
            "data": [
                {"b64_json": base64.b64encode(file).decode(), "seed": item.seed, "condition": dict(item.condition)}
                for item, file in zip(items, files, strict=True)
            ],
            "usage": usage(item=items[0]),
        }
    )


def usage(item: Item) -> dict[str, Any]:
    """What an item took."""
    done = item.done
    return {
        "generation_ms": round(1e3 * done.took, 3),
        "queue_ms": round(1e3 * done.waited, 3),
        "batch": done.batch,
    }


async def _events(request: Request, service: Service, asked: Asked, body: ImageRequest) -> Response:
    """Events with the picture after some steps, and then the picture.

    Raises:
        APIError: For more than one picture, or a mistake that shows before the first event.
    """
    if asked.items != 1:
        raise APIError(400, f"events are of one picture, got n = {asked.items}", param="n", code="too_many")
    loop, steps = asyncio.get_running_loop(), asyncio.Queue[tuple[Provenance, int, Tensor] | None]()
    total = service.pool.config(asked.model).steps if asked.steps is None else asked.steps
    wanted = body.partial_images or 0
    shown = {round((i + 1) * total / (wanted + 1)) for i in range(wanted)} - {0, total}

    def show(provenance: Provenance, number: int, x: Tensor) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, (provenance, number, x[0]))

    work = asyncio.ensure_future(while_there(request, service.sample(asked, show=show, at=shown)))
    work.add_done_callback(lambda _: steps.put_nowait(None))
    first = await steps.get()
    if first is None:
        await work  # which raises what went wrong
    common = {"output_format": body.output_format, "size": body.size or "auto", "quality": "auto"}

    async def event(kind: str, provenance: Provenance, signal: Tensor, **more: Any) -> str:
        file = await encoded(service, provenance, signal, body.output_format, body.output_compression)
        picture = {"type": kind, "b64_json": base64.b64encode(file).decode(), "created_at": int(time.time())}
        return f"event: {kind}\ndata: {json.dumps({**picture, **common, 'background': 'opaque', **more})}\n\n"

    async def events() -> AsyncIterator[str]:
        try:
            index, step = 0, first
            while step is not None:
                provenance, number, signal = step
                more = {"partial_image_index": index, "step": number}
                yield await event("image_generation.partial_image", provenance, signal, **more)
                index, step = index + 1, await steps.get()
            (item,) = await work
            more = {"seed": item.seed, "condition": dict(item.condition), "usage": usage(item)}
            yield await event("image_generation.completed", item.provenance, item.signal, **more)
        except Exception as error:
            yield f"event: error\ndata: {json.dumps({'type': 'error', **as_api_error(error).body})}\n\n"
        finally:
            work.cancel()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
