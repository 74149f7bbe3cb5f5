"""The same server as a Ray Serve deployment: replicas that come and go with the work there is."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unistep.serving.settings import Settings

NAME = "unistep"
"""Name of the application, and of what its replicas share."""
BOARD = "unistep-videos"
"""Name of the actor that holds what replicas know of videos."""
KEPT = 256
"""Videos that it keeps."""
ONGOING = 8.0
"""Requests that wait or are done at a replica, on average, above which there is another."""
AT_ONCE = 256
"""Requests that a replica has at most; more wait at the proxy."""
ENVIRONMENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # five seconds are too few on a machine that is busy
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_worker_niceness": "0",  # else whatever runs beside it goes before a request
}
"""What Ray is to do otherwise than usual, where nobody has said so."""
READY = 120.0
"""Seconds in which a replica must have loaded its models."""


class Videos:
    """An actor that every replica asks about videos that others make."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, dict[str, Any], tuple[bytes, str] | None] | None] = {}

    def put(self, name: str, client: str, body: dict[str, Any], content: tuple[bytes, str] | None) -> bool:
        """Note how far a video is; returns whether it is still wanted."""
        if name in self._known and self._known[name] is None:
            return False
        self._known[name] = (client, body, content)
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        return True

    def get(self, name: str) -> tuple[str, dict[str, Any], tuple[bytes, str] | None] | None:
        """What is known of a video."""
        return self._known.get(name)

    def remove(self, name: str) -> None:
        """Forget a video, and remember that nobody wants it."""
        self._known[name] = None


class RayBoard:
    """The replicas' side of :class:`Videos`."""

    def __init__(self) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        actor: Any = ray.remote(num_cpus=0)(Videos)
        self._actor: Any = actor.options(name=BOARD, namespace=NAME, get_if_exists=True, lifetime="detached").remote()

    async def put(self, name: str, client: str, body: dict[str, Any], content: tuple[bytes, str] | None) -> bool:
        """As :meth:`Videos.put`."""
        return await self._actor.put.remote(name, client, body, content)

    async def get(self, name: str) -> tuple[str, dict[str, Any], tuple[bytes, str] | None] | None:
        """As :meth:`Videos.get`."""
        return await self._actor.get.remote(name)

    async def remove(self, name: str) -> None:
        """As :meth:`Videos.remove`."""
        await self._actor.remove.remote(name)


class Replica:
    """One engine with its models, behind Ray's proxy; a WebSocket stays with the replica that accepted it.

    Args:
        settings: Models and limits.

    Raises:
        ValueError: If there is no such model.
        TimeoutError: If the models are not loaded in time.
    """

    def __init__(self, settings: Settings) -> None:
        from unistep.serving.service import Service

        self._settings = settings
        self._service = Service(settings)
        self._service.start()
        until = time.monotonic() + READY
        while not self._service.ready.wait(0.05):
            if self._service.failure is not None:
                raise self._service.failure
            if time.monotonic() > until:
                raise TimeoutError(f"the models were not loaded within {READY:g} s")

    def __serve_build_asgi_app__(self) -> Any:
        """The application that Ray's proxy calls."""
        from unistep.serving.api.app import create_app

        return create_app(self._settings, self._service, RayBoard())

    def check_health(self) -> None:
        """Raise where the replica is to be replaced.

        Raises:
            RuntimeError: If its engine has stopped.
        """
        if not self._service.engine.alive:
            raise RuntimeError("the engine has stopped")


def deployment(settings: Settings, *, replicas: int, least: int = 1) -> Any:
    """The server as an application of Ray Serve, for :func:`ray.serve.run`.

    Args:
        settings: Models and limits, which count for each replica.
        replicas: Replicas at most.
        least: Replicas at least.
    """
    from ray import serve  # pyright: ignore[reportMissingImports]

    made: Any = serve.deployment(
        serve.ingress()(Replica),
        name="Replica",
        max_ongoing_requests=AT_ONCE,
        graceful_shutdown_timeout_s=settings.limits.drain,
        health_check_period_s=2.0,
        health_check_timeout_s=10.0,
        ray_actor_options={"num_cpus": 1},
        autoscaling_config={
            "min_replicas": min(least, replicas),
            "max_replicas": replicas,
            "target_ongoing_requests": ONGOING,
            "upscale_delay_s": 2.0,
            "downscale_delay_s": 60.0,
        },
    )
    return made.bind(replace(settings, threads=settings.threads or 1))


def serve_on_ray(settings: Settings, *, host: str, port: int, replicas: int, least: int = 1) -> int:
    """Serve on the cluster at ``RAY_ADDRESS``, or on this machine as one, until Ctrl-C or SIGTERM.

    Args:
        settings: Models and limits, which count for each replica.
        host: Address at which the proxies listen.
        port: Their port.
        replicas: Replicas at most.
        least: Replicas at least.

    Returns:
        The exit code.
    """
    import signal
    import threading

    os.environ.update({**ENVIRONMENT, **os.environ})
    import ray  # pyright: ignore[reportMissingImports]
    from ray import serve  # pyright: ignore[reportMissingImports]

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    ray.init(namespace=NAME, log_to_driver=False, include_dashboard=False, ignore_reinit_error=True)
    try:
        serve.start(http_options={"host": host, "port": port})
        serve.run(deployment(settings, replicas=replicas, least=least), name=NAME)
        print(f"http://{host}:{port}/studio/   {min(least, replicas)} to {replicas} replicas; Ctrl-C stops", flush=True)
        stopped.wait()
    finally:
        serve.delete(NAME)
        serve.shutdown()
        ray.shutdown()
    return 0
