"""What a server has, and how it is: ``/v1/models``, ``/health``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from unistep.generation.editing import tasks
from unistep.generation.model_config import MAX_STEPS, ModelConfig
from unistep.serving.api.errors import RESPONSES
from unistep.serving.api.routing import service_of
from unistep.serving.described import described as about
from unistep.serving.service import Service

router = APIRouter()


@router.get("/health", responses={503: RESPONSES[503]}, response_model=None)
async def health(request: Request) -> Response:
    """Whether the server runs; one whose engine has stopped is to be started again."""
    alive = service_of(request).engine.alive
    return JSONResponse({"status": "ok" if alive else "stopped"}, 200 if alive else 503)


@router.get("/readyz", responses={503: RESPONSES[503]}, response_model=None)
async def ready(request: Request) -> Response:
    """Whether its models are loaded and warm."""
    service = service_of(request)
    if service.failure is not None:
        return JSONResponse({"status": "failed"}, 503)
    if not service.ready.is_set():
        return JSONResponse({"status": "warming"}, 503, headers={"Retry-After": "1"})
    return JSONResponse({"status": "ready", "loaded": sorted(service.pool.loaded), "backends": service.loader.backends})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models", responses={401: RESPONSES[401], 429: RESPONSES[429]})
async def models(request: Request) -> dict[str, Any]:
    """The models, and what each takes."""
    service = service_of(request)
    return {"object": "list", "data": [described(service, name) for name in service.pool.configs]}


@router.get("/v1/models/{model:path}", responses=dict(RESPONSES))
async def model(model: str, request: Request) -> dict[str, Any]:
    """One model."""
    service = service_of(request)
    service.pool.config(model)
    return described(service, model)


def described(service: Service, name: str) -> dict[str, Any]:
    """A model for programs."""
    config = service.pool.config(name)
    steps = min(MAX_STEPS, service.settings.limits.steps)
    own = about(config, max_steps=steps, tasks=tasks_of(service, name), loaded=name in service.pool.loaded)
    return {"id": name, "object": "model", "created": 0, "owned_by": "unistep", "unistep": own}


def tasks_of(service: Service, name: str) -> list[str]:
    """The tasks of editing that a model has; they are looked for once."""
    if name not in service.tasks:
        config = service.pool.config(name)
        service.tasks[name] = [] if config.context is not None else _tasks(config)
    return service.tasks[name]


def _tasks(config: ModelConfig) -> list[str]:
    """The tasks of editing that the signals of a model have."""
    from unistep.editing.task import EditOptions, Given

    modality = config.modality
    given = Given(shape=modality.shape, layout=modality.layout, noun=modality.noun)
    found = []
    for name, kind in tasks().items():
        try:
            kind(EditOptions(**{option: _PLAIN.get(option) for option in kind.needs}), given)
        except (ValueError, TypeError):
            continue
        found.append(name)
    return found


_PLAIN: dict[str, Any] = {
    "mask": "center", "factor": 2.0, "kernel": "gaussian:1", "cutoff": 1000.0, "known": 1.0, "border": "2",
}  # fmt: skip
"""Options with which a task is tried."""
