"""Sounds: ``/v1/audio/generate`` and ``/v1/audio/speech``, whole or in chunks as they are made."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import torch
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from torch import Tensor

from unistep.core.condition import asked as asked_fields
from unistep.serving.api.errors import RESPONSES, APIError
from unistep.serving.api.routing import (
    asked_of,
    caller_of,
    in_time,
    model_of,
    note,
    placed,
    service_of,
    while_there,
    words_of,
)
from unistep.serving.api.schemas import SoundRequest, SpeechRequest
from unistep.serving.described import chunk_seconds
from unistep.serving.files import encode, pcm, wav_header
from unistep.serving.reading import chunks_of
from unistep.serving.service import Asked, Item, Service
from unistep.serving.streams import Chunk

router = APIRouter()

SOUND: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {
        "description": "The sound.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("audio/wav", "audio/flac", "audio/ogg", "audio/pcm")
        },
    },
}


@router.post("/v1/audio/generate", responses=SOUND, response_model=None)
async def generate(body: SoundRequest, request: Request) -> Response:
    """Make a sound."""
    service = service_of(request)
    model = model_of(service, body.model, "audio")
    condition = words_of(service, model, body.prompt, body.condition)
    note(request, model=model, **({"prompt": body.prompt} if service.settings.log_prompts else {}))
    config = service.pool.config(model)
    asked = asked_of(request, body, model, condition)
    length = _seconds(service, model, body.seconds)
    if config.context is None:
        (item,) = await while_there(request, service.sample(asked))
        signal = item.signal[..., : round(length * item_rate(service, model))]
        return await _whole(service, item, signal, body.response_format)
    count = math.ceil(length / chunk_seconds(config) - 1e-9)
    conditions: list[Mapping[str, Any]] = [condition]
    return await _streamed(request, service, asked, count, conditions, body.response_format, chunked=body.stream)


@router.post("/v1/audio/speech", responses=SOUND, response_model=None)
async def speech(body: SpeechRequest, request: Request) -> Response:
    """Say something: a text where the model takes one, else names such as notes, one after the other."""
    service = service_of(request)
    model = model_of(service, body.model, "audio")
    config = service.pool.config(model)
    worded = [name for name, spec in asked_fields(config.fields).items() if spec.takes_words]
    if not worded:
        raise APIError(400, f"{model} has no words for an input", param="input", code="no_prompt")
    if body.instructions.strip():
        raise APIError(400, f"{model} takes no instructions", param="instructions", code="unsupported")
    voice = {worded[0]: body.voice} if len(worded) > 1 and body.voice.strip() else {}
    if body.voice.strip() and not voice:
        raise APIError(400, f"{model} has no voices", param="voice", code="unsupported")
    said = worded[-1]
    parts = [body.input] if config.fields[said].schema["kind"] == "text" else body.input.split()
    if not parts:
        raise APIError(400, "input has no words", param="input", code="missing")
    if len(parts) * chunk_seconds(config) > service.settings.limits.seconds:
        raise APIError(400, f"input is too long: {len(parts)} sounds", param="input", code="too_long")
    conditions: list[Mapping[str, Any]] = [{**voice, said: part} for part in parts]
    for one in conditions:
        service.condition(model, one)
    note(request, model=model, n=len(parts), **({"prompt": body.input} if service.settings.log_prompts else {}))
    if config.context is not None:
        asked = Asked(model=model, seed=body.seed, caller=caller_of(request))
        return await _streamed(request, service, asked, len(parts), conditions, body.response_format, chunked=True)
    caller = caller_of(request)
    seed = service.seed_of(Asked(model=model, items=len(parts), seed=body.seed))
    items: list[Item] = []
    for number, one in enumerate(conditions):
        wanted = Asked(model=model, seed=seed + number, condition=one, caller=caller)
        items += await while_there(request, service.sample(wanted))
    known = [item.provenance for item in items]
    every = replace(
        known[0],
        seeds=tuple(one for each in known for one in each.seeds),
        conditions=tuple(one for each in known for one in each.conditions),
    )
    signal = torch.cat([item.signal for item in items], dim=-1)
    return await _whole(service, replace(items[0], provenance=every), signal, body.response_format)


def item_rate(service: Service, model: str) -> int:
    """Samples a second of a model."""
    return service.pool.config(model).modality.rate or 1


def _seconds(service: Service, model: str, wanted: float | None) -> float:
    """How long a sound is to be.

    Raises:
        APIError: If it is longer than the server, or the model, makes them.
    """
    config = service.pool.config(model)
    own = config.modality.seconds or 0.0
    most = service.settings.limits.seconds if config.context is not None else own
    length = own if wanted is None else wanted
    if length > most + 1e-9:
        raise APIError(
            400, f"{model} makes sounds of {most:g} s here, got {length:g}", param="seconds", code="too_long"
        )
    if round(length * (config.modality.rate or 1)) < 1:
        raise APIError(400, f"seconds must hold a sample at least, got {length:g}", param="seconds", code="too_short")
    return length


async def _whole(service: Service, item: Item, signal: Tensor, format: str) -> Response:
    """A sound that is there, as one file."""
    modality = service.pool.config(item.provenance.model).modality
    headers = {
        "X-Seed": str(item.seed),
        "X-Generation-Ms": f"{1e3 * item.done.took:.2f}",
        "X-Sample-Rate": str(modality.rate),
        "X-Channels": str(modality.shape[0]),
        "Cache-Control": "no-store",
    }
    if format == "pcm":
        return Response(await service.encode(pcm, modality, signal), media_type="audio/pcm", headers=headers)
    provenance = item.provenance if service.settings.marked else None
    content = await service.encode(encode, modality, signal, format, provenance)
    return Response(content, media_type=f"audio/{format}", headers=headers)


async def _streamed(
    request: Request,
    service: Service,
    asked: Asked,
    count: int,
    conditions: list[Mapping[str, Any]],
    format: str,
    *,
    chunked: bool,
) -> Response:
    """The sound of a stream: in chunks as they are made where a format allows, else whole."""
    seed = service.seed_of(asked)
    asked = replace(asked, seed=seed)
    modality = service.pool.config(asked.model).modality
    headers = {
        "X-Seed": str(seed),
        "X-Sample-Rate": str(modality.rate),
        "X-Channels": str(modality.shape[0]),
        "Cache-Control": "no-store",
    }
    chunks = placed(request, chunks_of(service, asked, count, conditions))
    if chunked and format in ("wav", "pcm"):

        async def begun() -> Chunk:
            return await anext(chunks)

        first = await in_time(request, asked, begun, "try again later")  # a mistake is an error, not the end of a sound

        async def parts() -> AsyncIterator[bytes]:
            async with aclosing(chunks):  # also where the client leaves between two chunks
                if format == "wav":
                    yield wav_header(modality.rate or 1, modality.shape[0], count * first.signal.shape[-1])
                yield pcm(modality, first.signal)
                async for chunk in chunks:
                    yield pcm(modality, chunk.signal)

        return StreamingResponse(parts(), media_type=f"audio/{format}", headers=headers)

    async def whole() -> Tensor:
        return torch.cat([chunk.signal async for chunk in chunks], dim=-1)

    signal = await in_time(request, asked, whole, "in wav or pcm, with stream, it comes in chunks as it is made")
    asked.caller.done()
    if format == "pcm":
        return Response(await service.encode(pcm, modality, signal), media_type="audio/pcm", headers=headers)
    provenance = service.origin(asked.model, seed) if service.settings.marked else None
    content = await service.encode(encode, modality, signal, format, provenance)
    return Response(content, media_type=f"audio/{format}", headers=headers)
