"""What a server does for its clients: requests in, signals and streams out; no event loop ever waits for a network."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from torch import Tensor

from unistep.core.condition import parse_condition
from unistep.generation.requests import Plan, noise_of, plan_of
from unistep.generation.saving import conditions_in_words
from unistep.provenance import Provenance
from unistep.serving.asked import Asked, Item
from unistep.serving.described import chunk_seconds
from unistep.serving.engine import Engine
from unistep.serving.jobs import CallJob, Done, Job, LateError, SampleJob, ShownJob
from unistep.serving.loading import Loader
from unistep.serving.metrics import Metrics
from unistep.serving.pool import Pool, Served
from unistep.serving.settings import Settings
from unistep.serving.streams import LiveStream, game_of

Show = Callable[[Provenance, int, Tensor], object]
"""Called with where a sample comes from, the number of a step and the signal ``[1, *signal_shape]`` after it."""
LARGEST_SEED = 2**53 - 1
"""Largest seed that is drawn for a client: the largest whole number that a page's JavaScript holds exactly."""


class Service:
    """Models, the engine, and the threads around it.

    Args:
        settings: Models and limits.
        metrics: Counts what happens.

    Raises:
        ValueError: If there is no such model.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.pool = Pool(settings)
        self.engine = Engine(settings.limits, self.metrics, settings.threads)
        self.loader = Loader(settings, self.pool, self.engine)
        # Text encoders and files are read by one thread, so that they do not take the network's cores from it.
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="unistep-prepare")
        self._encoding = ThreadPoolExecutor(2, thread_name_prefix="unistep-encode")
        self._closing = False
        self.ready = threading.Event()
        """Whether the models that were named are loaded and warm."""
        self.failure: Exception | None = None
        """Why it never will be."""
        self.failed: Callable[[], object] = lambda: None
        """Called in that case."""
        self.tasks: dict[str, list[str]] = {}
        """The tasks of editing that each model has, once somebody has asked."""

    def start(self) -> None:
        """Start the engine; load and warm the models in the background. Once is enough."""
        if self.engine.start():
            self.loader.begin(list(self.pool.folders) if self.settings.models else [], self._began)

    def _began(self, failure: Exception | None) -> None:
        """Note that the models that were named are there, or why they will never be."""
        if failure is None:
            self.ready.set()
        elif not self._closing:  # one that was stopped before it was ready has not failed
            self.failure = failure
            self.failed()

    def close(self) -> None:
        """Let what was asked for end, then stop."""
        self._closing = True
        self.engine.close(self.settings.limits.drain)
        self.loader.close()
        for pool in (self._preparing, self._encoding):
            pool.shutdown(wait=False, cancel_futures=True)

    # What clients ask for.

    async def sample(
        self, asked: Asked, *, deadline: float | None = None, show: Show | None = None, at: Collection[int] = ()
    ) -> list[Item]:
        """Samples, in the order of their seeds.

        Args:
            asked: What is wanted.
            deadline: When they must be there, by :func:`time.monotonic`.
            show: Called from the engine's thread after some steps of one sample.
            at: Which steps, from 1.

        Raises:
            ValueError: For a mistake in what is asked for.
            BusyError: If there is no room.
            LateError: If it takes too long.
        """
        deadline = self._deadline(asked, deadline)
        jobs, provenance = await self._prepared(asked, partial(self._jobs, asked, deadline, show, at), deadline)
        done = await self._done(jobs)
        asked.caller.done()
        return [
            Item(signal=one.signals[0], provenance=provenance.item(number), done=one) for number, one in enumerate(done)
        ]

    def _deadline(self, asked: Asked, wanted: float | None = None) -> float:
        """When the network must be done: as is wanted, or as the answer's own time says."""
        if wanted is not None:
            return wanted
        return min(asked.caller.deadline, time.monotonic() + self.settings.limits.timeout)

    async def _prepared(self, asked: Asked, prepare: Callable[[Served], Any], deadline: float) -> Any:
        """What the preparing thread makes of a request with its model, within its time."""
        served = await self.loader.get(asked.model, asked.caller, deadline)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None if deadline == float("inf") else max(deadline - time.monotonic(), 0.0)):
                return await loop.run_in_executor(self._preparing, prepare, served)
        except TimeoutError:
            raise LateError("not begun in time") from None

    async def _done(self, jobs: Sequence[Job]) -> list[Done]:
        """What becomes of jobs; they are cancelled where nobody waits for them any more."""
        self.engine.submit_all(jobs)
        try:
            return list(await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs)))
        finally:
            for job in jobs:
                job.future.cancel()

    def condition(self, name: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """A model's condition from what JSON holds; without what is ``null``.

        Raises:
            ValueError: If there is no such field, or a value is none of it.
        """
        fields = self.pool.config(name).fields
        found = {}
        for field, value in (given or {}).items():
            if field not in fields:
                raise ValueError(f"{name} takes no {field[:40]!r}; it takes {', '.join(fields) or 'no condition'}")
            if value is not None:
                found[field] = fields[field].from_json(field, value)
        return found

    def _jobs(
        self, asked: Asked, deadline: float, show: Show | None, at: Collection[int], served: Served
    ) -> tuple[list[SampleJob], Provenance]:
        """The jobs of a request, and where their samples will come from; in the preparing thread."""
        generator = served.generator
        seeds = self._seeds(asked)
        condition = self.condition(asked.model, asked.condition)
        plan, given = self._plan(served, asked, condition)
        parsed = parse_condition(generator.config.fields, given, len(seeds))
        full = generator.completed(parsed, seeds)
        noise_of(generator, seeds[:1], [asked.toward])  # is it a walk?
        origin = self._origin(served.name, seeds, conditions_in_words(generator, seeds, given, full))
        jobs: list[SampleJob] = []
        for row, seed in enumerate(seeds):
            kind = SampleJob if show is None else partial(ShownJob, show=partial(show, origin.item(row)), at=at)
            jobs.append(
                kind(
                    served=served,
                    deadline=deadline,
                    client=asked.caller.name,
                    seed=seed,
                    plan=plan,
                    condition={name: value.select([row]) for name, value in full.items()},
                    toward=asked.toward,
                )
            )
        return jobs, origin

    def _plan(self, served: Served, asked: Asked, condition: Mapping[str, Any]) -> tuple[Plan, dict[str, Any]]:
        """How a request is sampled, and its condition; in the preparing thread."""
        plan, given = plan_of(served.generator, asked.steps, None, None, asked.guidance, condition)
        if len(plan.grid) > self.settings.limits.steps:
            raise ValueError(f"at most {self.settings.limits.steps} steps, got {len(plan.grid)}")
        return plan, given

    async def checked(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """New values of the condition of a stream, known to be some of its model.

        Args:
            name: The model.
            given: The values, as :meth:`condition` takes them.

        Raises:
            ValueError: If one is none.
        """
        fields, values = self.pool.config(name).fields, self.condition(name, given)

        def parse() -> None:
            for field, value in values.items():
                fields[field].parse(field, value, 1)

        if any(fields[field].takes_words for field in values):  # which an encoder may have to read
            await asyncio.get_running_loop().run_in_executor(self._preparing, parse)
        else:
            parse()
        return values

    async def check(self, asked: Asked) -> None:
        """Load a model, and see whether it can do what is asked for, without doing it.

        Raises:
            ValueError: For a mistake.
            LateError: If it takes too long.
        """

        def prepared(served: Served) -> None:
            _, given = self._plan(served, asked, self.condition(asked.model, asked.condition))
            parse_condition(served.generator.config.fields, given, 1)

        await self._prepared(asked, prepared, self._deadline(asked))

    def seed_of(self, asked: Asked) -> int:
        """The seed of the first item that is asked for, drawn where none is given."""
        return secrets.randbelow(LARGEST_SEED - asked.items) if asked.seed is None else asked.seed

    def _seeds(self, asked: Asked) -> list[int]:
        """The seed of each item that is asked for."""
        first = self.seed_of(asked)
        return list(range(first, first + asked.items))

    def origin(self, model: str, seed: int) -> Provenance:
        """Where a stream of a model that was loaded comes from, whose condition changes."""
        return self._origin(model, [seed], [{}])

    def _origin(self, model: str, seeds: Sequence[int], words: Sequence[Mapping[str, str | float]]) -> Provenance:
        # The hash is known also of a model that was dropped: nothing is loaded in the event loop's thread.
        return Provenance(
            model=model, model_hash=self.pool.hashes[model], seeds=tuple(seeds), conditions=tuple(map(dict, words))
        )

    async def work(
        self,
        asked: Asked,
        what: str,
        steps: int,
        prepare: Callable[[Served], Callable[[Sequence[int], Mapping[str, Any], Callable[[], bool]], Tensor]],
        *,
        deadline: float | None = None,
    ) -> list[Item]:
        """Other work with a model, such as an edit, whose result has an item for each that is asked for.

        Args:
            asked: What is wanted.
            what: Which work, such as ``edit/inpaint``: work of one name and number of steps takes equally long.
            steps: Network calls of each item.
            prepare: Gives, in the preparing thread, a function of seeds, condition and a question whether to stop.
            deadline: As in :meth:`sample`.

        Raises:
            ValueError: For a mistake in what is asked for.
            BusyError: If there is no room.
            LateError: If it takes too long.
        """
        deadline = self._deadline(asked, deadline)

        def prepared(served: Served) -> tuple[CallJob, Provenance]:
            seeds = self._seeds(asked)
            condition = self.condition(asked.model, asked.condition)
            call = partial(prepare(served), seeds, condition)
            client = asked.caller.name
            job = CallJob(
                served=served, deadline=deadline, client=client, what=what, steps=steps, items=asked.items, call=call
            )
            plain = {name: value for name, value in condition.items() if isinstance(value, str | int | float)}
            return job, self._origin(served.name, seeds, [plain] * len(seeds))

        job, provenance = await self._prepared(asked, prepared, deadline)
        (done,) = await self._done([job])
        asked.caller.done()
        return [
            Item(signal=signal, provenance=provenance.item(number), done=done)
            for number, signal in enumerate(done.signals)
        ]

    async def encode(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives that takes long and no network, such as one that writes a file."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, partial(function, *arguments))

    async def open(
        self,
        asked: Asked,
        wake: Callable[[], object],
        *,
        seconds: float | None = None,
        ahead: int = 0,
        script: Sequence[Mapping[str, Any]] = (),
        game: bool = False,
    ) -> LiveStream:
        """A stream, whose first chunk is made at once.

        Args:
            asked: Model, seed, steps, guidance and first condition.
            wake: Called in the event loop's thread once a chunk waits, or the stream has ended.
            seconds: From one chunk to the next; the model's own without, 0 for as fast as it can.
            ahead: Chunks that are made before they are due.
            script: Conditions of single chunks, as :attr:`LiveStream.script`.
            game: Whether it goes on from the first frame of the game that its data comes from.

        Raises:
            ValueError: If the model does not stream, or for a mistake in what is asked for.
            BusyError: If there is no room.
        """
        loop = asyncio.get_running_loop()

        def prepared(served: Served) -> LiveStream:
            generator = served.generator
            (seed,) = self._seeds(asked)
            condition = self.condition(asked.model, asked.condition)
            plan, given = self._plan(served, asked, condition)
            session = generator.session(steps=asked.steps, guidance=None if plan.guidance == 1 else plan.guidance)
            parse_condition(generator.config.fields, given, 1)
            known = [self.condition(asked.model, one) for one in script]
            for one in known:
                parse_condition(generator.config.fields, one, 1)
            played, frame = game_of(generator.config, asked.model, seed) if game else (None, None)
            return LiveStream(
                game=played,
                served=served,
                session=session,
                plan_key=plan.key,
                state=session.start([seed], None if frame is None else frame[None]),
                seconds=chunk_seconds(generator.config) if seconds is None else seconds,
                ahead=ahead,
                wake=partial(_in_loop, loop, wake),
                condition={name: value for name, value in given.items() if value is not None},
                script=known,
            )

        stream = await self._prepared(asked, prepared, self._deadline(asked))
        self.engine.open(stream)
        return stream


def _in_loop(loop: asyncio.AbstractEventLoop, wake: Callable[[], object]) -> None:
    """Call a function in an event loop's thread, unless the loop has ended and nobody listens any more."""
    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:
        if not loop.is_closed():
            raise


__all__ = ["Asked", "Future", "Item", "Service"]
