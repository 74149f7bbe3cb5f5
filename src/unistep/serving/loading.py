"""Models that are loaded and warmed while all others answer: one at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unistep.serving.caller import Caller
from unistep.serving.jobs import BusyError, CallJob
from unistep.serving.warming import accelerate, freeze, warming

if TYPE_CHECKING:
    from unistep.generation.generator import Generator
    from unistep.serving.engine import Engine
    from unistep.serving.pool import Pool, Served
    from unistep.serving.settings import Settings

_log = logging.getLogger(__name__)

AGAIN = 10.0
"""Seconds after which a model that could not be loaded is tried again."""
SOON = 2.0
"""Seconds after which a client may ask again for a model that is being loaded."""
WAITING = 4
"""One request of so many that may wait for the network may wait for models; there is room for others."""


class BrokenModelError(RuntimeError):
    """A model cannot be loaded; ``seconds`` says when it is tried again."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"the model {name} cannot be loaded; the server's log says why")
        self.seconds = seconds


class Loader:
    """Loads the models that are asked for.

    All requests for a model wait for one load of it, which goes on though some of them leave. It takes the engine's
    thread only for single batches that warm the model up, between which those of others go.

    Args:
        settings: Backend, precision and limits.
        pool: The models.
        engine: What warms them up.
    """

    def __init__(self, settings: Settings, pool: Pool, engine: Engine) -> None:
        self._settings, self._pool, self._engine = settings, pool, engine
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="unistep-load")
        self._trying = ThreadPoolExecutor(1, thread_name_prefix="unistep-try")
        self._lock = threading.Lock()
        self._coming: dict[str, Future[Served]] = {}
        self._broken: dict[str, float] = {}  # when each is tried again, by the monotonic clock
        self._untried: set[str] = set()
        self._began = threading.Event()
        self._waiting = 0
        self.backends: dict[str, str] = {}
        """What runs the network of each model, where it is not PyTorch itself."""

    def begin(self, names: Sequence[str], then: Callable[[Exception | None], object]) -> None:
        """Load the models that a server begins with.

        Args:
            names: Their names.
            then: Called in the loading thread once they are there, or with the reason why one will never be.
        """
        coming = [self.ask(name) for name in names]

        def failed(one: Future[Served]) -> None:
            if not one.cancelled() and (error := one.exception()) is not None:
                then(error.__cause__ if isinstance(error.__cause__, Exception) else Exception(error))

        def loaded() -> None:
            if not any(one.cancelled() or one.exception() for one in coming):
                freeze()
                self._began.set()
                then(None)

        for one in coming:
            one.add_done_callback(failed)
        self._loading.submit(loaded)

    async def get(self, name: str, caller: Caller, deadline: float) -> Served:
        """A model that is loaded and warm.

        Args:
            name: Its name.
            caller: Who waits for it.
            deadline: When the answer must be there, by :func:`time.monotonic`.

        Raises:
            UnknownModelError: If it is not served here.
            BrokenModelError: If it cannot be loaded.
            BusyError: If it is not loaded in time, or too many wait for models.
        """
        found = self.ask(name)
        if found.done():
            return found.result()
        if self._waiting >= max(1, self._settings.limits.queue // WAITING):
            raise BusyError(f"{self._waiting} requests wait for models that are being loaded", SOON)
        self._waiting += 1
        try:
            with caller.aside():
                async with asyncio.timeout(None if deadline == float("inf") else max(deadline - time.monotonic(), 0.0)):
                    return await asyncio.shield(asyncio.wrap_future(found))  # a client that leaves ends no load
        except TimeoutError:
            raise BusyError(f"the model {name} is being loaded", SOON) from None
        finally:
            self._waiting -= 1

    def ask(self, name: str) -> Future[Served]:
        """A model, or the load of it that has begun.

        Raises:
            UnknownModelError: If it is not served here.
            BrokenModelError: If it could not be loaded a moment ago.
        """
        self._pool.config(name)
        with self._lock:
            coming = self._coming.get(name)
            if coming is not None:
                return coming
            served = self._pool.find(name)
            if served is not None:
                there: Future[Served] = Future()
                there.set_result(served)
                return there
            left = self._broken.get(name, 0.0) - time.monotonic()
            if left > 0:
                raise BrokenModelError(name, left)
            coming = self._coming[name] = self._loading.submit(self._load_or_note, name)
        coming.add_done_callback(lambda _: self._come(name))
        return coming

    def _come(self, name: str) -> None:
        with self._lock:
            del self._coming[name]

    def _load_or_note(self, name: str) -> Served:
        try:
            return self._load(name)
        except BusyError:
            raise  # the server stops
        except Exception as error:
            if self._began.is_set():  # else it ends the server, which says why
                _log.error("%s cannot be loaded: %s", name, error, exc_info=not isinstance(error, ValueError))
            self._broken[name] = time.monotonic() + AGAIN
            raise BrokenModelError(name, AGAIN) from error

    def _load(self, name: str) -> Served:
        """Load a model and warm it up, unless it is there; in the loading thread."""
        served = self._pool.find(name)
        if served is not None:
            return served
        served = self._pool.get(name)
        try:
            if self._settings.backend not in ("auto", "eager"):
                self._run_by_the_named(served)
            self._warm(served)
        except BaseException:
            self._pool.drop(name)  # else the next request would find one that is not warm
            raise
        if self._began.is_set():
            freeze()
        if self._settings.backend == "auto" and name not in self._untried:
            self._untried.add(name)
            self._trying.submit(self._try, name)
        return served

    def _try(self, name: str) -> None:
        """Look for a faster backend, in a thread of its own: until there is one, PyTorch answers."""
        self._untried.discard(name)
        served = self._pool.loaded.get(name)
        if served is None:
            return  # it was dropped before its turn
        try:
            self._accelerate(served, self._pool.load(served.name))
            self._warm(served)
            freeze()
        except Exception as error:
            _log.warning("no backend was tried for %s: %s", served.name, error)

    def _run_by_the_named(self, served: Served) -> None:
        """Let the backend that is named run a model that nobody asks for anything yet.

        Raises:
            ValueError: If it cannot, at the start; a model that is loaded later is run by PyTorch then.
        """
        try:
            self._accelerate(served, served.generator)
        except ValueError as error:
            if not self._began.is_set():
                raise
            _log.warning("%s is run by PyTorch: %s", served.name, error)

    def _accelerate(self, served: Served, copy: Generator) -> None:
        settings = self._settings
        precision = "int8" if settings.precision == "int8" else "auto"
        self.backends[served.name] = accelerate(served, copy, settings.backend, self._engine.threads, precision)

    def _warm(self, served: Served) -> None:
        """Warm a model up in the engine's thread, where each batch waits for its turn."""
        for call in warming(served):
            job = CallJob(
                served=served, deadline=float("inf"), what="warm", steps=0, items=1, call=partial(_nothing, call)
            )
            self._engine.submit_all([job], own=True)
            job.future.result()
            served.latencies.pop(job.kind, None)

    def close(self) -> None:
        """Load nothing more."""
        for pool in (self._loading, self._trying):
            pool.shutdown(wait=False, cancel_futures=True)


def _nothing(call: Callable[[], Any], stop: Callable[[], bool]) -> Tensor:
    """Do something that has no signals."""
    del stop
    call()
    return torch.zeros(0)
