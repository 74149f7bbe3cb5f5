"""Live streams over WebSockets: ``/v1/realtime/video`` and ``/v1/realtime/audio``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocketState
from torch import Tensor

from unistep.core.action_fields import find_actions
from unistep.core.condition import asked as asked_fields
from unistep.generation.keys import key_bindings
from unistep.generation.play import GAP, side_by_side
from unistep.serving.api.errors import APIError, as_api_error
from unistep.serving.api.routing import caller_of, model_of, service_of
from unistep.serving.api.schemas import Body, Condition, Name, Seed
from unistep.serving.files import PICTURES, frame_bytes, pcm
from unistep.serving.reading import Reader
from unistep.serving.service import Asked, Service
from unistep.serving.streams import GAMES, Chunk

router = APIRouter()

AHEAD = {"video": 0, "audio": 2}
"""Chunks that are sent before they are due: none of a picture that answers to keys, some of a sound without gaps."""
MESSAGE = 100_000
"""Characters of a message at most."""
TRY_LATER, REFUSED, BROKEN = 1013, 1008, 1011
"""Codes by which a WebSocket is closed."""


class Start(Body):
    """``session.start``."""

    type: Literal["session.start"]
    model: Name | None = None
    """One of `/v1/models` that streams; the first without."""
    seed: Seed | None = None
    """Seed of the stream; drawn and returned without."""
    format: Literal["jpeg", "webp", "png", "pcm"] | None = None
    """Of the chunks: of a video jpeg, webp or png; of a sound pcm."""
    quality: int = Field(default=85, ge=1, le=100)
    """Of jpeg and webp."""
    condition: Condition = Field(default_factory=dict)
    """First values of the model's fields."""
    fps: float | None = Field(default=None, ge=0.1, le=240)
    """Frames a second; the model's own without."""
    game: Literal["start", "beside"] | None = None
    """Of a world: go on from the first frame of the game that its data comes from, and show the game on the left,
    under the same actions."""
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    """Sampling steps."""
    guidance_scale: float | None = Field(default=None, ge=-100, le=100)
    """Guidance weight."""


class Interaction(Body):
    """``session.interaction``."""

    type: Literal["session.interaction"]
    condition: Condition = Field(default_factory=dict)
    """New values; `null` leaves a field to the seed."""
    keys: list[str] | None = Field(default=None, max_length=16)
    """Keys that are held, for models of a player's actions."""


class Ping(Body):
    """``session.ping``."""

    type: Literal["session.ping"]
    t: float | int | str | None = None
    """Comes back."""


class Stop(Body):
    """``session.stop``."""

    type: Literal["session.stop"]


MESSAGES: TypeAdapter[Start | Interaction | Ping | Stop] = TypeAdapter(Start | Interaction | Ping | Stop)
KINDS = {"session.start": Start, "session.interaction": Interaction, "session.ping": Ping, "session.stop": Stop}


def parsed(text: str) -> Start | Interaction | Ping | Stop:
    """A message of a client.

    Raises:
        APIError: If it is none.
    """
    if len(text) > MESSAGE:
        raise APIError(400, f"a message may have {MESSAGE:,} characters", code="too_large")
    try:
        found = json.loads(text)
        kind = KINDS[found["type"]]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise APIError(
            400, f"a message is a JSON object with a type: {', '.join(KINDS)}", code="invalid_json"
        ) from None
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:60]
        raise APIError(400, f"{place}: {first['msg'][:200]}", param=place, code="invalid_value") from None


class Session:
    """One client's stream.

    Args:
        socket: Its connection.
        service: The service.
        media: ``video`` or ``audio``.
    """

    def __init__(self, socket: WebSocket, service: Service, media: str) -> None:
        self._socket, self._service, self._media = socket, service, media
        self._sending = asyncio.Lock()
        self._reader: Reader | None = None
        self._start: Start | None = None
        self._model = ""
        self._chunks = 0
        self.id = f"session_{secrets.token_hex(8)}"
        """Its name."""

    async def run(self) -> None:
        """Serve the client until it leaves or stops."""
        limits = self._service.settings.limits
        sender: asyncio.Task[None] | None = None
        try:
            message = await self._receive(limits.body_seconds)
            if not isinstance(message, Start):
                raise APIError(400, "the first message is session.start", code="not_started")
            await self._open(message)
            sender = asyncio.create_task(self._send_chunks())
            while True:
                receiver = asyncio.create_task(self._receive(limits.idle))
                try:
                    await asyncio.wait({receiver, sender}, return_when=asyncio.FIRST_COMPLETED)
                    if sender.done():
                        sender.result()
                        break
                    if not await self._answer(receiver.result()):
                        break
                finally:
                    receiver.cancel()
                    await asyncio.wait({receiver})
                    if not receiver.cancelled():
                        receiver.exception()  # which asyncio would complain of otherwise
            await self._json({"type": "session.done", "session": self.id, "chunks": self._chunks})
            await self._socket.close(1000)
        except WebSocketDisconnect:
            pass
        except Exception as error:
            if self._socket.application_state is not WebSocketState.CONNECTED:
                return  # what is sent to a client that has left fails
            failed = as_api_error(error)
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await self._json({"type": "error", **failed.body})
                code = TRY_LATER if failed.status == 503 else BROKEN if failed.status >= 500 else REFUSED
                await self._socket.close(code, close_reason(failed.message))
        finally:
            if self._reader is not None:
                self._reader.close()
            if sender is not None:
                sender.cancel()
                await asyncio.wait({sender})
                if not sender.cancelled():
                    sender.exception()

    async def _receive(self, seconds: float) -> Start | Interaction | Ping | Stop:
        """The client's next message.

        Raises:
            APIError: If it is none, or does not come in time.
            WebSocketDisconnect: If the client has left.
        """
        try:
            async with asyncio.timeout(seconds):
                message = await self._socket.receive()
        except TimeoutError:
            raise APIError(408, f"nothing was said for {seconds:g} s", code="idle") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if message.get("text") is None:
            raise APIError(400, "messages are text", code="invalid_json")
        return parsed(message["text"])

    async def _json(self, message: Mapping[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_text(json.dumps(message))

    async def _open(self, start: Start) -> None:
        """Begin the stream."""
        service, media = self._service, self._media
        model = self._model = model_of(service, start.model, media, streams=True)
        modality = service.pool.config(model).modality
        output = modality.stream_output
        formats = PICTURES if output.pictures is not None else ("pcm",)
        format = start.format or formats[0]
        if format not in formats:
            raise APIError(
                400, f"{model} streams {', '.join(formats)}, got {format!r}", param="format", code="wrong_format"
            )
        if start.fps is not None and output.at_rate is None:
            raise APIError(400, f"{model} has one rate", param="fps", code="unsupported")
        self._start = start.model_copy(update={"format": format})
        condition = start.condition
        asked = Asked(
            model=model, seed=start.seed, steps=start.num_inference_steps, guidance=start.guidance_scale,
            condition=condition, caller=caller_of(self._socket),
        )  # fmt: skip
        seed = service.seed_of(asked)
        asked = replace(asked, seed=seed)
        rate = output.rate if start.fps is None else start.fps
        seconds = None if output.pictures is None else 1.0 / rate
        game = start.game is not None
        self._reader = await Reader.open(service, asked, seconds=seconds, ahead=AHEAD[media], game=game)
        about: dict[str, Any] = {"format": format, "seed": seed, "model": model}
        if output.pictures is None:
            chunk = self._reader.stream.seconds
            about |= {"sample_rate": modality.rate, "channels": modality.shape[0], "chunk_seconds": chunk}
        else:
            height, width = modality.shape[-2:]
            width = 2 * width + GAP if start.game == "beside" else width
            about |= {"width": width, "height": height, "fps": rate}
        await self._json({"type": f"{media}.start", "session": self.id, **about})

    async def _answer(self, message: Start | Interaction | Ping | Stop) -> bool:
        """Take a message; returns whether to go on."""
        assert self._reader is not None
        if isinstance(message, Stop):
            return False
        if isinstance(message, Ping):
            await self._json({"type": "session.pong", "t": message.t})
        elif isinstance(message, Interaction):
            given = dict(message.condition)
            if message.keys is not None:
                given |= self._action(message.keys)
            values = await self._service.checked(self._model, given)
            self._reader.interact({**{name: None for name in given}, **values})
        else:
            raise APIError(400, "the session has begun already", code="started")
        return True

    def _action(self, held: list[str]) -> dict[str, str]:
        """The action that keys stand for."""
        fields = asked_fields(self._service.pool.config(self._model).fields)
        for name, spec in fields.items():
            if spec.played:
                bindings = key_bindings(spec)  # type: ignore[arg-type]
                unknown = [key for key in held if key not in bindings]
                if unknown:
                    raise APIError(400, f"no key {unknown[0][:20]!r}; one of {', '.join(bindings)}", param="keys")
                return {name: "+".join(dict.fromkeys(bindings[key] for key in held)) or "none"}
        raise APIError(400, f"{self._model} takes no keys", param="keys", code="unsupported")

    async def _send_chunks(self) -> None:
        assert self._reader is not None
        while (chunk := await self._reader.next()) is not None:
            for content, about in await self._contents(chunk):
                async with self._sending:
                    await self._socket.send_text(json.dumps(about))
                    await self._socket.send_bytes(content)
            self._chunks += 1

    def _beside(self, chunk: Chunk) -> Tensor:
        """The game's next frame on the left, under the action of a chunk, and the chunk."""
        assert self._reader is not None
        game = self._reader.stream.game
        assert game is not None
        fields = self._service.pool.config(self._model).fields
        name, spec = find_actions(fields, self._model)
        given = chunk.condition.get(name)
        parsed = spec.null(1) if given is None else spec.parse(name, given, 1)
        (action,) = parsed.tensors.values()
        with GAMES:
            return side_by_side(game.step(action[0]), chunk.signal)

    async def _contents(self, chunk: Chunk) -> list[tuple[bytes, dict[str, Any]]]:
        """The binary frames of a chunk, each with what is said of it."""
        assert self._reader is not None
        assert self._start is not None
        config = self._service.pool.config(self._model)
        output = config.modality.stream_output
        if output.pictures is None:
            parts = [await self._service.encode(pcm, config.modality, chunk.signal)]
        else:
            signal = chunk.signal
            if self._start.game == "beside":
                signal = await self._service.encode(self._beside, chunk)
            pictures = output.pictures(signal)
            options = (self._start.format, self._start.quality)
            parts = [await self._service.encode(frame_bytes, picture, *options) for picture in pictures]
        seconds = self._reader.stream.seconds
        about = {
            "type": f"{self._media}.chunk_metadata", "gen_ms": round(1e3 * chunk.took, 3), "late": chunk.late,
            "interaction": chunk.interaction,
        }  # fmt: skip
        first = chunk.number * len(parts)
        step = seconds / len(parts)
        return [
            (part, {**about, "sequence": first + i, "pts": round((first + i) * step, 6), "bytes": len(part)})
            for i, part in enumerate(parts)
        ]


def close_reason(message: str) -> str:
    """As much of a message as a WebSocket's closing frame holds: 123 bytes."""
    return message.encode()[:123].decode(errors="ignore")


class Places:
    """How many streams each client has.

    Args:
        service: Its limits.
    """

    def __init__(self, service: Service) -> None:
        self._limits, self._service = service.settings.limits, service
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def take(self, client: str):  # noqa: ANN201 - a context manager
        """A place for one stream.

        Raises:
            APIError: If there is none.
        """
        if self._taken[client] >= self._limits.streams_per_client or self._taken.total() >= self._limits.streams:
            raise APIError(503, f"{self._taken.total()} streams are live already", code="overloaded", retry=5.0)
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]


async def _serve(socket: WebSocket, media: str) -> None:
    """Accept a client and serve it."""
    await socket.accept()
    service = service_of(socket)
    try:
        with socket.app.state.places.take(socket.scope["state"]["client"]):
            await Session(socket, service, media).run()
    except APIError as error:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_text(
                json.dumps({"type": "queue_status", "position": 1, "queue_depth": service.engine.streams})
            )
            await socket.send_text(json.dumps({"type": "error", **error.body}))
            await socket.close(TRY_LATER, close_reason(error.message))


@router.websocket("/v1/realtime/video")
async def video(socket: WebSocket) -> None:
    """Live video, such as a world that is played."""
    await _serve(socket, "video")


@router.websocket("/v1/realtime/audio")
async def audio(socket: WebSocket) -> None:
    """A stream of sound."""
    await _serve(socket, "audio")
