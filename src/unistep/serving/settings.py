"""What a server is allowed to do, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what one request, one client and all of them together may ask for."""

    queue: int = 256
    """Items that wait for the network at most; more are answered with 503."""
    batch: int = 32
    """Items that go through the network together at most."""
    batch_seconds: float = 0.1
    """Longest batch, in seconds, as far as the latency table tells: longer ones would keep the others waiting."""
    timeout: float = 30.0
    """Seconds in which a request must be answered; one that cannot be is refused at once, with 503, and one that
    becomes late is answered with 504."""
    items: int = 16
    """Items of one request."""
    steps: int = 64
    """Sampling steps of one request."""
    seconds: float = 60.0
    """Seconds of sound or video of one request."""
    body: int = 20_000_000
    """Bytes of a request's body."""
    body_seconds: float = 15.0
    """Seconds that a client has for sending it."""
    pixels: int = 16_000_000
    """Pixels of a picture that is sent."""
    text: int = 4_000
    """Characters of a prompt."""
    streams: int = 16
    """Live streams at a time."""
    streams_per_client: int = 4
    """Live streams of one key, or of one address."""
    idle: float = 300.0
    """Seconds after which a stream ends whose client says nothing."""
    jobs: int = 32
    """Videos that are made or kept at a time."""
    jobs_per_client: int = 8
    """Videos of one key, or of one address, that are made at a time."""
    job_seconds: float = 3600.0
    """Seconds for which a finished video is kept."""
    rate: float = 0.0
    """Requests a minute of one key, or of one address; 0 for any number."""
    drain: float = 10.0
    """Seconds that requests have to end once the server is asked to stop."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A server."""

    models: tuple[str, ...] = ()
    """Names, folders or hub identifiers of the models; those that ship, one-step and worlds, without."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    precision: str = "fp32"
    """Arithmetic of the network: fp32, bf16, auto, or int8, which a backend has and PyTorch has not."""
    backend: str = "auto"
    """What runs the network: eager, or one of the others; auto tries those that are installed, once the server is
    ready, and takes the fastest whose results agree."""
    threads: int = 0
    """Threads of the network on a CPU; 0 for one fewer than there are cores."""
    memory: int = 0
    """Bytes that the weights of all loaded models may take, of which the longest unused are dropped; 0 for any."""
    keys: tuple[str, ...] = ()
    """API keys; anyone may ask without."""
    hosts: tuple[str, ...] = ()
    """Names under which it answers, as ``Host`` headers have them but for ports; any without."""
    origins: tuple[str, ...] = ()
    """Other origins whose pages may ask, such as https://example.org; none without."""
    marked: bool = True
    """Whether files say that a model made them."""
    log_prompts: bool = False
    """Whether the log has what was asked for."""
    limits: Limits = Limits()
    """Bounds."""
