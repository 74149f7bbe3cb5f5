"""A server of the API's shapes for tests of the pages: pictures are drawn from their prompt and seed, sounds are tones.

It refuses what the contract refuses (unknown fields, models that are not there), sends the content security policy that
pages must work with, and fails as often as ``app.state.failures`` has statuses and seconds to wait. While
``app.state.held`` is set, requests for pictures wait for it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from pathlib import Path
from typing import Any

import mock_models
import mock_signals
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from unistep.provenance import COMPOSITE, TRAINED, Provenance, mark_content

STUDIO = Path(__file__).parents[3] / "src" / "unistep" / "serving" / "studio"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src blob:; connect-src 'self' ws: wss:; style-src 'self'"
)
GENERATION = {
    *("model", "prompt", "n", "seed", "num_inference_steps", "guidance_scale", "condition", "size", "output_format"),
    *("output_compression", "response_format", "stream", "partial_images", "user", "toward"),
}
EDIT = {
    *("image", "mask", "model", "prompt", "task", "n", "seed", "num_inference_steps", "strength", "options"),
    *("output_format", "condition"),
}
SOUND = {"model", "condition", "seed", "seconds", "num_inference_steps", "response_format", "stream"}


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": str(status)}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def seed_of(body: dict[str, Any]) -> int:
    return int(body["seed"]) if body.get("seed") is not None else random.randrange(2**31)


def drawing(body: dict[str, Any], seed: int) -> bytes:
    text = f"{body.get('prompt', '')}|{json.dumps(body.get('condition', {}), sort_keys=True)}"
    shape = mock_models.MODELS[body["model"]]["shape"]
    toward = body.get("toward")
    return mock_signals.picture(text, seed, shape[1], toward=(toward["seed"], toward["share"]) if toward else None)


def create(key: str = "", models: tuple[str, ...] = mock_models.USUAL) -> FastAPI:
    """The server, with a key where one is needed."""
    app = FastAPI()
    app.state.failures = []
    app.state.requests = []
    app.state.interactions = []
    app.state.held = None

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        path = request.url.path
        if path.startswith("/v1/"):
            if key and request.headers.get("authorization") != f"Bearer {key}":
                return refusal(401, "This server needs an API key.")
            if app.state.failures and path != "/v1/models":
                status, wait = app.state.failures.pop()
                return refusal(status, "Try later.", {"Retry-After": str(wait)})
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-cache"
        return response

    @app.get("/")
    async def start() -> RedirectResponse:
        return RedirectResponse("/studio/")

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [mock_models.listed(name) for name in models]}

    def checked(body: dict[str, Any], allowed: set[str]) -> JSONResponse | None:
        if unknown := set(body) - allowed:
            return refusal(400, f"Unknown field {sorted(unknown)[0]!r}.")
        if body.get("model") not in models:
            return refusal(404, f"There is no model {body.get('model')!r}.")
        app.state.requests.append(body)
        return None

    def answered(request: Request, made: list[tuple[bytes, int]], source: str) -> Response:
        known = Provenance(model=app.state.requests[-1]["model"], model_hash="", source_type=source)
        pictures = [(mark_content(data, ".png", known), seed) for data, seed in made]
        if request.headers.get("accept", "").startswith("image/") and len(pictures) == 1:
            data, seed = pictures[0]
            return Response(data, media_type="image/png", headers={"X-Seed": str(seed), "X-Generation-Ms": "7.1"})
        data = [{"b64_json": base64.b64encode(png).decode(), "seed": seed} for png, seed in pictures]
        return JSONResponse({"created": 0, "output_format": "png", "data": data, "usage": {"generation_ms": 7.1}})

    @app.post("/v1/images/generations")
    async def generate(request: Request) -> Response:
        body = await request.json()
        if wrong := checked(body, GENERATION):
            return wrong
        while app.state.held:
            await asyncio.sleep(0.01)
        seed = seed_of(body)
        return answered(request, [(drawing(body, seed + i), seed + i) for i in range(body.get("n", 1))], TRAINED)

    @app.post("/v1/images/edits")
    async def edit(request: Request) -> Response:
        async with request.form() as form:
            body = {name: value for name, value in form.items() if isinstance(value, str)}
            files = {name: await value.read() for name, value in form.items() if not isinstance(value, str)}
        if wrong := checked(body | dict.fromkeys(files), EDIT):
            return wrong
        sizes = {name: len(data) for name, data in files.items()}
        app.state.requests[-1] = body | sizes | {"condition": json.loads(body.get("condition", "{}"))}
        seed = seed_of(body)
        size = mock_models.MODELS[body["model"]]["shape"][1]
        edited = mock_signals.edited(files["image"], files.get("mask"), body.get("task", "inpaint"), seed, size)
        return answered(request, [(edited, seed)], COMPOSITE)

    @app.post("/v1/audio/generate")
    async def sound(request: Request) -> Response:
        body = await request.json()
        if wrong := checked(body, SOUND):
            return wrong
        seed = seed_of(body)
        headers = {"X-Seed": str(seed), "X-Generation-Ms": "12.9", "X-Sample-Rate": str(mock_signals.RATE)}
        text = json.dumps(body.get("condition", {}), sort_keys=True)
        return Response(mock_signals.tone(text, seed), media_type="audio/pcm", headers=headers)

    async def session(connection: WebSocket, kind: str) -> None:
        await connection.accept()
        if key and connection.query_params.get("key") != key:
            await connection.close(1008)
            return
        if app.state.failures:
            app.state.failures.pop()
            await connection.close(1013)
            return
        await Session(connection, kind, app.state.interactions).run()

    @app.websocket("/v1/realtime/video")
    async def video(connection: WebSocket) -> None:
        await session(connection, "video")

    @app.websocket("/v1/realtime/audio")
    async def audio(connection: WebSocket) -> None:
        await session(connection, "audio")

    app.mount("/studio", StaticFiles(directory=STUDIO, html=True))
    return app


class Session:
    """One realtime session: chunks at their rate, which show the latest interaction."""

    def __init__(self, connection: WebSocket, kind: str, log: list[dict[str, Any]]) -> None:
        self.connection, self.kind, self.log = connection, kind, log
        self.number, self.condition, self.stopped = 0, {}, False

    async def run(self) -> None:
        start = json.loads(await self.connection.receive_text())
        seed = int(start.get("seed") or 0)
        about: dict[str, Any] = {"type": f"{self.kind}.start", "session": f"s{random.randrange(10**9)}", "seed": seed}
        if self.kind == "video":
            about |= {"width": 64, "height": 64, "fps": 25, "format": start.get("format", "jpeg")}
        else:
            about |= {"sample_rate": mock_signals.RATE, "chunk_seconds": 0.512, "channels": 1, "format": "pcm"}
        await self.connection.send_json(about)
        reader = asyncio.create_task(self.read())
        try:
            await self.write(seed, 1 / 25 if self.kind == "video" else 0.512)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the page has gone
        finally:
            reader.cancel()

    async def read(self) -> None:
        try:
            while True:
                message = json.loads(await self.connection.receive_text())
                if message["type"] == "session.interaction":
                    self.number += 1
                    self.condition = {k: v for k, v in message.items() if k != "type"}
                    self.log.append(self.condition)
                elif message["type"] == "session.ping":
                    await self.connection.send_json({"type": "session.pong", "t": message.get("t")})
                elif message["type"] == "session.stop":
                    self.stopped = True
        except WebSocketDisconnect:
            self.stopped = True

    async def write(self, seed: int, period: float) -> None:
        sequence = 0
        ahead = 0 if self.kind == "video" else 3
        while not self.stopped:
            text = json.dumps(self.condition, sort_keys=True)
            if self.kind == "video":
                data = mock_signals.frame(text, seed, sequence)
            else:
                data = mock_signals.tone(text, seed, seconds=0.512)
            about = {"type": f"{self.kind}.chunk_metadata", "sequence": sequence, "pts": sequence * period}
            about |= {"gen_ms": 12.3, "interaction": self.number, "bytes": len(data), "late": False}
            await self.connection.send_json(about)
            await self.connection.send_bytes(data)
            sequence += 1
            if sequence > ahead:
                await asyncio.sleep(period)
        await self.connection.send_json({"type": "session.done", "chunks": sequence})
        await self.connection.close()


if __name__ == "__main__":
    import sys

    import uvicorn

    uvicorn.run(create(), port=int(sys.argv[1]) if len(sys.argv) > 1 else 8123, log_level="warning")
