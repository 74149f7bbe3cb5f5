"""The application: all routes behind one door, around one service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from unistep.serving.api import audio, edits, errors, images, listing, realtime, videos
from unistep.serving.api.door import Door
from unistep.serving.api.guard import Guard
from unistep.serving.service import Service
from unistep.serving.settings import Settings

STUDIO = Path(__file__).parent.parent / "studio"
"""The pages that people use."""


def description(app: FastAPI) -> dict[str, Any]:
    """What `/openapi.json` says: FastAPI's, without the status by which this server never refuses a request.

    Args:
        app: The application.
    """
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for route in found["paths"].values():
            for method in route.values():
                method["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        app.openapi_schema = found
    return app.openapi_schema


def create_app(settings: Settings, service: Service | None = None, board: videos.Board | None = None) -> FastAPI:
    """The application of a server.

    Args:
        settings: Models, keys and limits.
        service: What does the work; made of the settings without.
        board: What several replicas share.

    Raises:
        ValueError: If there is no such model.
    """
    service = Service(settings) if service is None else service

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        del app
        service.start()
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    # No pages of documentation: those of FastAPI load scripts from elsewhere. /openapi.json is there.
    app = FastAPI(title="Unistep", version=version("unistep"), lifespan=life, docs_url=None, redoc_url=None)
    app.openapi = partial(description, app)
    app.state.service = service
    app.state.jobs = videos.Jobs(service, board)
    app.state.places = realtime.Places(service)
    rooms = (listing, images, edits, audio, videos, realtime)
    errors.install(app, [route for room in rooms for route in room.router.routes])
    for room in rooms:
        app.include_router(room.router)

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("/studio/")

    if STUDIO.is_dir():
        app.mount("/studio", StaticFiles(directory=STUDIO, html=True), name="studio")
    app.state.door = Door(settings, service.metrics)
    app.add_middleware(Guard, door=app.state.door, limits=settings.limits, metrics=service.metrics)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["x-seed", "x-generation-ms", "x-sample-rate", "x-channels", "retry-after"],
        )  # fmt: skip
    return app
