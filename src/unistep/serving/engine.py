"""The engine: one thread that runs the networks, a bounded queue, and streams that are stepped when they are due."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

import torch

from unistep.generation.requests import CancelledError
from unistep.serving.jobs import OWN, BusyError, Done, Job, LateError, ShareError
from unistep.serving.metrics import Metrics
from unistep.serving.settings import Limits
from unistep.serving.streams import LiveStream, step_together
from unistep.serving.turns import Turns

_log = logging.getLogger(__name__)

PATIENCE = 0.1
"""Seconds that requests may wait for streams before one batch of them goes first."""
LONGEST_WAIT = 60.0
"""Seconds after which the thread looks again, however far away the next stream is."""
EARLY = 0.0005
"""Seconds before it is due in which a stream may be stepped: shorter waits are not worth the thread's sleep."""


class Engine:
    """Runs whatever is asked for, in one thread, so that nothing else ever waits for a network.

    A batch is what waits in the queue and agrees; nothing waits for a batch to fill. Clients take turns. Streams go
    before requests, whose batches are no longer than the time until the next stream is due.

    Args:
        limits: Sizes of queue and batches.
        metrics: Counts what happens.
        threads: Threads of the network on a CPU; 0 for one fewer than there are cores.
    """

    def __init__(self, limits: Limits, metrics: Metrics, threads: int = 0) -> None:
        self._limits, self._metrics = limits, metrics
        self.threads = threads or max(1, (os.cpu_count() or 1) - 1)
        """Threads of the network on a CPU."""
        self._queue = Turns()
        self._streams: list[LiveStream] = []
        self._wake = threading.Condition()
        self._stopping = self._draining = False
        self._busy_until = 0.0
        self._requests_last = False
        self._thread = threading.Thread(target=self._run, name="unistep-engine", daemon=True)

    def start(self) -> bool:
        """Start the thread; returns whether it did not run yet."""
        if self._thread.is_alive():
            return False
        self._thread.start()
        return True

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self, seconds: float = 0.0) -> None:
        """Take nothing more, let what waits end for so many seconds, then stop.

        Args:
            seconds: For how long.
        """
        until = time.monotonic() + seconds
        with self._wake:
            self._draining = True
            self._wake.notify_all()
            while (self._queue or self._busy_until) and time.monotonic() < until:
                self._wake.wait(0.05)
            self._stopping = True
            left, streams = self._queue.clear(), list(self._streams)
            self._wake.notify_all()
        for job in left:
            _fail(job, BusyError("the server is stopping", 1.0))
        for stream in streams:
            stream.fail(BusyError("the server is stopping", 1.0))
            self.end(stream)
        if self._thread.is_alive():
            self._thread.join(timeout=30.0)

    # What other threads call.

    def submit(self, job: Job) -> None:
        """Queue a job; its future has the answer.

        Raises:
            BusyError: If the queue is full, the engine stops, or the job cannot be done before its deadline.
        """
        self.submit_all([job])

    def submit_all(self, jobs: Sequence[Job], *, own: bool = False) -> None:
        """Queue the jobs of one request, or none of them.

        Args:
            jobs: The jobs.
            own: Whether they are the server's own, for which there is always room.

        Raises:
            BusyError: As :meth:`submit`.
        """
        with self._wake:
            if self._draining:
                raise BusyError("the server is stopping", 1.0)
            for job in jobs:
                job.client = OWN if own else job.client
            self._queue.assign(jobs)
            before = self._queue.before(jobs[-1].turn)
            waiting = before.seconds + self._busy_seconds()
            if not own:
                self._check_room(jobs, max(waiting, 1.0))
            for job in jobs:
                before.add(job)
            ends = time.monotonic() + before.seconds + self._busy_seconds()
            # With nothing before it, a job is tried whatever it took before: only so a slow machine's recovery is seen.
            if waiting > 0 and ends > min(job.deadline for job in jobs):
                self._metrics.refused.labels("deadline").inc()
                raise BusyError("the server is too busy to answer in time", max(waiting, 1.0))
            self._queue.add(jobs)
            self._metrics.depth.set(len(self._queue))
            self._wake.notify_all()

    def _check_room(self, jobs: Sequence[Job], seconds: float) -> None:
        """Raise unless the client may have so many more jobs wait.

        Raises:
            BusyError: If the queue is full, or the client has its part of it.
        """
        shares, client, size = self._queue.shares, jobs[0].client, sum(job.size for job in jobs)
        if shares.has_room(client, size, self._limits.queue):
            return
        if shares.others(client) and shares.held(client):
            self._metrics.refused.labels("share").inc()
            raise ShareError(shares.held(client), seconds)
        self._metrics.refused.labels("queue").inc()
        raise BusyError(f"{len(self._queue)} items wait already", seconds)

    def _busy_seconds(self) -> float:
        """Seconds until the batch that is under way is done, as far as known."""
        return max(self._busy_until - time.monotonic(), 0.0)

    def waiting_seconds(self) -> float:
        """Seconds until all that is queued is done, as far as known; streams not counted."""
        with self._wake:
            return self._queue.seconds + self._busy_seconds()

    def open(self, stream: LiveStream) -> None:
        """Begin to make the chunks of a stream.

        Raises:
            BusyError: If the engine stops.
        """
        with self._wake:
            if self._draining:
                raise BusyError("the server is stopping", 1.0)
            stream.served.streams += 1
            self._streams.append(stream)
            self._metrics.streams.set(len(self._streams))
            self._wake.notify_all()

    def end(self, stream: LiveStream) -> None:
        """Make no more chunks of a stream."""
        with self._wake:
            stream.closed = True
            if stream in self._streams:
                self._streams.remove(stream)
                stream.served.streams -= 1
                self._metrics.streams.set(len(self._streams))

    def nudge(self) -> None:
        """Look at the streams again: one has an input, or took its chunk."""
        with self._wake:
            self._wake.notify_all()

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._queue)

    # The thread.

    def _run(self) -> None:
        torch.set_num_threads(self.threads)  # of this thread: what else the process does needs a core too
        while True:
            streams, batch = self._next()
            if streams:
                self._step(streams)
            elif batch:
                self._sample(batch)
            else:
                return
            del streams, batch  # else what was done last would be kept, and its model, until there is more to do

    def _next(self) -> tuple[list[LiveStream], list[Job]]:
        """What to do now: streams to step, or a batch; neither where the engine stops."""
        with self._wake:
            while True:
                self._busy_until = 0.0
                if self._stopping:
                    return [], []
                now = time.monotonic()
                self._wake.notify_all()  # whoever waits for the queue to drain
                ready = [stream for stream in self._streams if stream.ready]
                due = [stream for stream in ready if stream.due <= now + EARLY]
                first = self._queue.first
                oldest = now if first is None else first.submitted
                # Those that are made as fast as they can be, such as videos, have no time to be kept: they take turns.
                patience = PATIENCE if any(stream.seconds for stream in due) else 0.0
                if due and (self._requests_last or not self._queue or now - oldest < patience):
                    self._requests_last = False
                    due.sort(key=lambda stream: stream.due)
                    return [stream for stream in due if stream.key == due[0].key][: self._limits.batch], []
                upcoming = self._upcoming(now)
                slack = None if upcoming is None else upcoming - now
                # What does not fit before the next stream waits for it, but no longer than requests wait for streams.
                fits = first is None or slack is None or first.cost() <= slack or now - oldest >= PATIENCE
                if self._queue and fits:
                    batch = self._take(now, slack)
                    if batch:
                        self._requests_last = True
                        return [], batch
                    continue
                if slack is not None and not fits:
                    slack = min(slack, oldest + PATIENCE - now)
                self._wake.wait(None if slack is None else min(max(slack, EARLY), LONGEST_WAIT))

    def _upcoming(self, now: float) -> float | None:
        """When the next stream is due that is played at a rate, also one whose last chunk is about to be taken."""
        return min(
            (one.due for one in self._streams if one.seconds and (one.ready or (not one.ended and one.due > now))),
            default=None,
        )

    def _take(self, now: float, slack: float | None) -> list[Job]:
        """The next batch: the job whose turn it is and those that agree with it; late ones leave the queue."""
        batch: list[Job] = []
        gone: list[Job] = []
        most = 1
        for job in self._queue:
            if batch and job.key != batch[0].key:
                continue
            if not self._wanted(job, now):
                gone.append(job)
                continue
            if not batch:
                most = self._most(job, slack)
            batch.append(job)
            if len(batch) >= most:
                break
        self._queue.remove([*gone, *batch])
        self._metrics.depth.set(len(self._queue))
        if batch:
            latency = batch[0].served.latency(batch[0].kind)
            self._busy_until = now + latency.predict(sum(job.size for job in batch))
        return batch

    def _most(self, job: Job, slack: float | None) -> int:
        """How many jobs like this one go together, where the next stream is due after so many seconds."""
        seconds = self._limits.batch_seconds if slack is None else max(min(self._limits.batch_seconds, slack), 0.0)
        return job.served.latency(job.kind).largest(seconds, self._limits.batch)

    def _wanted(self, job: Job, now: float) -> bool:
        """Whether a job is still to be done; it has its error where it cannot be in time."""
        if job.future.cancelled():
            self._metrics.cancelled.inc()
            return False
        if now + min(job.cost(), (job.deadline - job.submitted) / 2) > job.deadline:  # what has not waited is tried
            self._late(job)
            return False
        return True

    def _late(self, job: Job) -> None:
        self._metrics.late.inc()
        _fail(job, LateError(f"not done within {job.deadline - job.submitted:.1f} s"))

    def _sample(self, batch: list[Job]) -> None:
        begun = time.monotonic()
        size = sum(job.size for job in batch)

        def stop() -> bool:
            now = time.monotonic()
            return all(job.future.cancelled() or now > job.deadline for job in batch) or self._stopping

        try:
            results = type(batch[0]).run(batch, stop)
        except CancelledError:
            for job in batch:
                if job.future.cancelled():
                    self._metrics.cancelled.inc()
                elif time.monotonic() > job.deadline:
                    self._late(job)
                else:
                    _fail(job, BusyError("the server is stopping", 1.0))
            return
        except Exception as error:
            if not isinstance(error, ValueError):
                _log.exception("a batch of %s failed", batch[0].served.name)
            for job in batch:
                _fail(job, error)
            return
        now = time.monotonic()
        batch[0].served.latency(batch[0].kind).observe(size, now - begun)
        self._metrics.batch(batch[0].served.name, size, now - begun)
        for job, signals in zip(batch, results, strict=True):
            if job.future.cancelled():
                self._metrics.cancelled.inc()
                continue
            if now > job.deadline:
                self._late(job)
                continue
            self._metrics.waited.observe(begun - job.submitted)
            found = Done(signals=signals, waited=begun - job.submitted, took=now - begun, batch=size)
            if not job.future.done() and job.future.set_running_or_notify_cancel():
                job.future.set_result(found)

    def _step(self, streams: list[LiveStream]) -> None:
        begun = time.monotonic()
        try:
            chunks = step_together(streams)
        except Exception as error:
            if not isinstance(error, ValueError):
                _log.exception("a chunk of %s failed", streams[0].served.name)
            if len(streams) > 1:  # one client's mistake is not the others'
                for stream in streams:
                    self._step([stream])
                return
            streams[0].fail(error)
            self.end(streams[0])
            return
        self._metrics.chunks(streams[0].served.name, chunks, time.monotonic() - begun)


def _fail(job: Job, error: Exception) -> None:
    """Give a job its error, unless its client has left."""
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
