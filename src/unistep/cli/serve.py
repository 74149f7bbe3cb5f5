"""``unistep serve``: models behind an HTTP API that existing clients speak, and the studio."""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from unistep.cli.extras import require
from unistep.cli.parse import parse

if TYPE_CHECKING:
    from unistep.serving.settings import Settings

KEYS = "UNISTEP_API_KEYS"
"""Environment variable with API keys, separated by commas: a command line is seen by everyone on the machine."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Serve models over HTTP: pictures, sounds, videos, live streams and edits, and pages to use them at /studio/."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = ()
    """Names from `unistep models`, folders, or owner/name on the Hugging Face hub; loaded before the server says that
    it is ready. Without, all one-step models that ship, each loaded when it is first asked for."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for other machines too."""
    port: int = 8000
    """Port to listen at; 0 for any that is free."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "fp32"
    """Arithmetic of the network; int8 by onnxruntime or openvino, with samples that differ a little."""
    backend: str = "auto"
    """What runs the network: eager, compiled, onnxruntime, openvino, or auto for the fastest of those that are
    installed and agree."""
    threads: int | None = None
    """Threads of the network; one fewer than there are cores without, so that one is left for everything else."""
    memory: float | None = None
    """GiB that the weights of all loaded models may take; the longest unused are dropped. Any number without."""
    timeout: float = 30.0
    """Seconds in which a request must be answered; those that cannot be are refused at once."""
    queue: int = 256
    """Items that may wait."""
    max_batch: int = 32
    """Items that go through the network together at most."""
    max_items: int = 16
    """Items of one request at most."""
    max_steps: int = 64
    """Sampling steps at most."""
    max_seconds: float = 60.0
    """Seconds of sound or video of one request at most."""
    max_streams: int = 16
    """Live streams at most."""
    rate: float = 0.0
    """Requests a minute of one key or address; 0 for any number."""
    allow_host: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A name under which the server answers, such as that of a proxy before it; may be given several times. At a
    loopback address it answers as localhost and by that address alone, elsewhere under any name without."""
    origins: tuple[str, ...] = ()
    """Origins of other pages that may ask, such as https://example.org."""
    unmarked: bool = False
    """Do not say in files that a model made them."""
    log: Literal["none", "requests", "prompts"] = "requests"
    """Lines of JSON on standard error, one a request; prompts has what people asked for too."""
    ray: bool = False
    """Serve on a Ray cluster, or on this machine as one: several replicas, as many as there is work for."""
    replicas: int = 2
    """Replicas at most, with --ray; there is another where more than eight requests wait or are done at each."""
    min_replicas: int = 1
    """Replicas at least, with --ray."""


def run(arguments: Sequence[str]) -> int:
    """Serve until the server is stopped."""
    options = parse(ServeOptions, "serve", arguments)
    check(options)
    require("serve", "a server")
    settings = settings_of(options)
    if options.ray:
        require("ray", "--ray", ("ray",))
        from unistep.serving.ray_app import serve_on_ray

        return serve_on_ray(
            settings, host=options.host, port=options.port, replicas=options.replicas, least=options.min_replicas
        )
    return listen(options, settings)


def check(options: ServeOptions) -> None:
    """Refuse values that make no sense.

    Raises:
        ValueError: Naming the option.
    """
    for name in ("queue", "max_batch", "max_items", "max_steps", "max_streams", "replicas", "min_replicas"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    for name in ("timeout", "max_seconds"):
        if not 0 < getattr(options, name) < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be a number above 0, got {getattr(options, name):g}")
    if not 0 <= options.port <= 65535:
        raise ValueError(f"--port must be from 0 to 65535, got {options.port}")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    if options.memory is not None and not 0 < options.memory < math.inf:
        raise ValueError(f"--memory must be a number of GiB above 0, got {options.memory:g}")
    if not 0 <= options.rate < math.inf:
        raise ValueError(f"--rate must be a number of at least 0, got {options.rate:g}")
    for name in options.allow_host:
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", name):
            raise ValueError(f"--allow-host is a name such as example.org, without http:// and port, got {name!r}")
    for origin in options.origins:
        if not origin.startswith(("http://", "https://")) or origin.endswith("/"):
            raise ValueError(f"--origins are such as https://example.org, without a path, got {origin!r}")


def settings_of(options: ServeOptions) -> Settings:
    """The settings of a server.

    Raises:
        ValueError: If keys were given that are none.
    """
    from unistep.cli.devices import choose_device
    from unistep.serving.hosts import hosts_of
    from unistep.serving.settings import Limits, Settings

    if options.precision == "int8" and options.backend in ("eager", "compiled"):
        raise ValueError(f"{options.backend} does not compute in int8; onnxruntime and openvino do: --backend auto")
    keys = tuple(key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip())
    if any(len(key) < 16 for key in keys):
        raise ValueError(f"keys in {KEYS} need 16 characters or more each; python -c 'import secrets; "
                         "print(secrets.token_urlsafe())' makes one")  # fmt: skip
    limits = Limits(
        queue=options.queue, batch=options.max_batch, timeout=options.timeout, items=options.max_items,
        steps=options.max_steps, seconds=options.max_seconds, streams=options.max_streams, rate=options.rate,
    )  # fmt: skip
    return Settings(
        models=options.models,
        device=choose_device(options.device),
        precision=options.precision,
        backend=options.backend,
        memory=0 if options.memory is None else int(options.memory * 2**30),
        keys=keys,
        hosts=hosts_of(options.host, options.allow_host),
        origins=tuple(origin.lower() for origin in options.origins),  # as browsers write them
        marked=not options.unmarked,
        log_prompts=options.log == "prompts",
        limits=limits,
        threads=options.threads or 0,
    )


def listen(options: ServeOptions, settings: Settings, begun: Callable[[str], object] | None = None) -> int:
    """Serve on this machine, until a signal stops it; then what was asked for is still answered.

    Args:
        options: Where, and what is logged.
        settings: The server.
        begun: Called with the address of the pages once the server listens.

    Returns:
        The exit code.
    """
    from unistep.serving.api.app import create_app
    from unistep.serving.api.listening import server_of
    from unistep.serving.hosts import is_loopback
    from unistep.serving.service import Service

    service = Service(settings)
    app = create_app(settings, service)
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listening = socket.create_server((options.host, options.port), family=family, backlog=1024)
    except OSError as error:
        raise ValueError(f"cannot listen at {options.host}:{options.port}: {error.strerror or error}") from None
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    log_to_stderr(options.log)
    if not is_loopback(options.host) and not settings.keys:
        print(f"anyone who reaches {options.host} may use this server; set {KEYS} to ask for keys", file=sys.stderr)
    print(f"http://{host}:{port}/studio/   API: http://{host}:{port}/v1   Ctrl-C stops", flush=True)
    if begun is not None:
        begun(f"http://{host}:{port}/studio/")
    server = server_of(app, settings.limits)
    service.failed = partial(setattr, server, "should_exit", True)
    server.run(sockets=[listening])
    if service.failure is not None:
        raise service.failure
    return 0


def log_to_stderr(level: str) -> None:
    """Write the lines of the log to standard error as they are, one JSON object each."""
    logger = logging.getLogger("unistep.access")
    logger.propagate = False
    if level == "none":
        logger.setLevel(logging.CRITICAL)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers, logger.level = [handler], logging.INFO
