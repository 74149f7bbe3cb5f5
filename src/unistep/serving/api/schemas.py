"""What clients send and get, as JSON; fields that are not known are refused, never ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

SEED = 2**63 - 1025
"""Largest seed that a client may ask for."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Seed = Annotated[int, Field(ge=0, le=SEED)]
Prompt = Annotated[str, StringConstraints(max_length=20_000)]
Condition = dict[Annotated[str, StringConstraints(max_length=100)], Any]


class Body(BaseModel):
    """A body whose fields are all known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=20_000, protected_namespaces=())


class Toward(Body):
    """A walk through noise space."""

    seed: Seed
    """The seed at its other end."""
    share: float = Field(ge=0, le=1)
    """How far along it."""


class Sampling(Body):
    """What all requests for samples have."""

    model: Name | None = None
    """One of `/v1/models`; the first that fits without."""
    seed: Seed | None = None
    """Seed of the first item; drawn and returned without."""
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    """Sampling steps."""
    guidance_scale: float | None = Field(default=None, ge=-100, le=100)
    """Guidance weight."""
    condition: Condition = Field(default_factory=dict)
    """Values of the model's fields by name; `null` leaves one to the seed."""
    user: str | None = Field(default=None, max_length=200)
    """Ignored: whose request it is."""


class ImageRequest(Sampling):
    """`POST /v1/images/generations`."""

    prompt: Prompt = ""
    """A text, or the name of a class, as the model has them; empty for what the seed draws."""
    n: int = Field(default=1, ge=1, le=1000)
    """Pictures, of seeds that follow each other."""
    size: str | None = Field(default=None, max_length=20)
    """`auto`, or the model's own, such as `64x64`."""
    toward: Toward | None = None
    """Begin with noise between that of two seeds."""
    output_format: Literal["png", "jpeg", "webp"] = "png"
    """Format of the files."""
    output_compression: int | None = Field(default=None, ge=0, le=100)
    """Quality of `jpeg` and `webp`."""
    response_format: Literal["b64_json"] = "b64_json"
    """Pictures come in the answer itself."""
    quality: Literal["auto", "standard", "low", "medium", "high"] | None = None
    """Steps are what decides: `auto` or nothing."""
    background: Literal["auto", "opaque"] | None = None
    """Pictures are opaque."""
    stream: bool = False
    """Send events, with pictures of the steps before the last."""
    partial_images: int | None = Field(default=None, ge=0, le=3)
    """How many of those."""


class Picture(Body):
    """One picture."""

    b64_json: str
    """The file, in base 64."""
    seed: int
    """Its seed."""
    condition: dict[str, Any]
    """Its condition, given or drawn."""


class Usage(Body):
    """What an answer took."""

    generation_ms: float
    """In the network, together with the rest of the batch."""
    queue_ms: float
    """In the queue."""
    batch: int
    """Items of the batch."""


class ImagesAnswer(Body):
    """The answer to requests for pictures."""

    created: int
    """When, in seconds since 1970."""
    output_format: str
    """Format of the files."""
    data: list[Picture]
    """The pictures."""
    usage: Usage
    """What it took."""


class SoundRequest(Sampling):
    """`POST /v1/audio/generate`."""

    prompt: Prompt = ""
    """A text, or the name of a class, as the model has them."""
    seconds: float | None = Field(default=None, gt=0, le=86_400)
    """How long: the model's own without, at most that of models that make whole sounds."""
    response_format: Literal["wav", "pcm", "flac", "ogg"] = "wav"
    """Format; `pcm` is 16 bits, little-endian."""
    stream: bool = False
    """Send it in chunks, as it is made."""


class SpeechRequest(Body):
    """`POST /v1/audio/speech`, for models of anything that sounds: words are what the model has names for."""

    model: Name
    """One of `/v1/models`."""
    input: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    """A text of models that take one; else names, such as notes, one after the other: `C4 E4 G4`."""
    voice: Prompt = ""
    """The other field that has names, such as the instrument."""
    response_format: Literal["wav", "pcm", "flac"] = "wav"
    """Format."""
    speed: float = Field(default=1.0, ge=1.0, le=1.0)
    """1: models have one speed."""
    instructions: Prompt = ""
    """Nothing: models take none."""
    stream_format: Literal["audio"] = "audio"
    """The sound itself, in chunks."""
    seed: Seed | None = None
    """Seed of the first sound."""


class VideoRequest(Sampling):
    """`POST /v1/videos`, and `/v1/videos/sync`."""

    prompt: Prompt = ""
    """A text, or the name of a class, as the model has them."""
    seconds: float | None = Field(default=None, gt=0, le=86_400)
    """How long: the model's own without."""
    size: str | None = Field(default=None, max_length=20)
    """`auto`, or the model's own."""
    actions: list[Any] | None = Field(default=None, max_length=100_000)
    """What a player does, frame by frame, of a world; the last one is held."""
    output_format: Literal["mp4", "webm", "gif"] = "mp4"
    """Format of the file."""


class VideoJob(Body):
    """A video that is made, or was."""

    id: str
    """Name of the job."""
    object: Literal["video"] = "video"
    """What it is."""
    model: str
    """Which model."""
    status: Literal["queued", "in_progress", "completed", "failed"]
    """Where it stands."""
    progress: int = Field(ge=0, le=100)
    """How much is done, in per cent."""
    created_at: int
    """When it was asked for."""
    completed_at: int | None
    """When it was done."""
    seconds: str
    """How long it is."""
    size: str
    """Its size."""
    seed: int | None
    """Its seed."""
    error: dict[str, Any] | None
    """Why there is none."""
