"""Streams as the event loop reads them: chunk after chunk, each waited for and taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from unistep.serving.jobs import BusyError
from unistep.serving.service import Asked, Service
from unistep.serving.streams import Chunk, LiveStream


class Reader:
    """A stream that one client reads; leave it with :meth:`close`.

    Args:
        service: The service.
        stream: The stream.
        woken: Set whenever there is something to look at.
    """

    def __init__(self, service: Service, stream: LiveStream, woken: asyncio.Event) -> None:
        self._service, self.stream, self._woken = service, stream, woken

    @classmethod
    async def open(
        cls,
        service: Service,
        asked: Asked,
        *,
        seconds: float | None = None,
        ahead: int = 0,
        script: Sequence[Mapping[str, Any]] = (),
        game: bool = False,
    ) -> Reader:
        """Begin a stream; see :meth:`Service.open`.

        Raises:
            ValueError: For a mistake in what is asked for.
            BusyError: If there is no room.
        """
        woken = asyncio.Event()
        stream = await service.open(asked, woken.set, seconds=seconds, ahead=ahead, script=script, game=game)
        return cls(service, stream, woken)

    async def next(self) -> Chunk | None:
        """The next chunk; ``None`` once the stream was closed.

        Raises:
            ValueError: If the model refused a condition.
            BusyError: If the server stops.
        """
        while True:
            self._woken.clear()
            if self.stream.error is not None:
                raise self.stream.error
            if self.stream.closed:
                return None
            chunk = self.stream.take()
            if chunk is not None:
                self._service.engine.nudge()
                return chunk
            await self._woken.wait()

    def interact(self, condition: Mapping[str, Any]) -> int:
        """Take a client's input, which the next chunk reflects; returns its number."""
        before = self.stream.dropped
        self.stream.interact(condition)
        self._service.metrics.dropped.inc(self.stream.dropped - before)
        self._service.engine.nudge()
        return self.stream.interaction

    def close(self) -> None:
        """Make no more chunks."""
        self._service.engine.end(self.stream)
        self._woken.set()


async def chunks_of(
    service: Service, asked: Asked, count: int, conditions: Sequence[Mapping[str, Any]] = ()
) -> AsyncGenerator[Chunk, None]:
    """The first chunks of a stream, as fast as they are made.

    Args:
        service: The service.
        asked: What is wanted.
        count: How many.
        conditions: The condition of each chunk; the last one holds for all that follow.

    Raises:
        ValueError: For a mistake in what is asked for.
        BusyError: If there is no room.
    """
    # All are known before the first chunk is made: the network does not wait for whoever reads.
    reader = await Reader.open(service, asked, seconds=0.0, script=conditions[:count])
    try:
        for _ in range(count):
            chunk = await reader.next()
            if chunk is None:
                raise BusyError("the server is stopping", 1.0)
            yield chunk
    finally:
        reader.close()


__all__ = ["Reader", "chunks_of"]
