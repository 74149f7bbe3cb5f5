"""What waits for the network, in an order in which clients take turns."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from unistep.serving.jobs import OWN
from unistep.serving.shares import Shares

if TYPE_CHECKING:
    from unistep.serving.jobs import Job

LEAST = 1e-4
"""Seconds that an item counts for at least: before its kind was seen, nothing is known of how long it takes."""
_turn = attrgetter("turn")


class Turns:
    r"""Jobs that wait, by start-time fair queueing.

    A job's turn is :math:`\max(v, e)`, where :math:`v` is the turn that is served now and :math:`e` the end of its
    client's last one, which is its turn and the seconds it takes. So whoever comes waits, beside the batch that is
    under way, for at most one job of each other client, however many of them wait. One client's jobs stay in order.

    References:
        Goyal, Vin and Cheng, 1996, "Start-time Fair Queueing", section 2.
    """

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._ends: dict[str, float] = {}
        self._now = 0.0
        self.shares = Shares()
        """Items of each client that wait."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        jobs = list(self._jobs)
        self.remove(jobs)
        return jobs

    @property
    def first(self) -> Job | None:
        """Whose turn it is."""
        return self._jobs[0] if self._jobs else None

    def assign(self, jobs: Iterable[Job]) -> None:
        """Give the jobs of one request their turns; they do not wait yet."""
        ends: dict[str, float] = {}
        for job in jobs:
            job.turn = max(self._now, ends.get(job.client, self._ends.get(job.client, 0.0)))
            ends[job.client] = job.turn + _weight(job)

    def before(self, turn: float) -> list[Job]:
        """Those that wait for a turn no later than this one."""
        return [job for job in self._jobs if job.turn <= turn]

    def add(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait that have their turns."""
        for job in jobs:
            insort(self._jobs, job, key=_turn)
            self._ends[job.client] = max(self._ends.get(job.client, 0.0), job.turn + _weight(job))
            if job.client != OWN:
                self.shares.take(job.client, job.size)

    def remove(self, jobs: Collection[Job]) -> None:
        """Take jobs out, whose turn it is."""
        gone = {id(job) for job in jobs}
        for job in jobs:
            if job.client != OWN:
                self.shares.give(job.client, job.size)
        self._now = max(self._now, min((job.turn for job in jobs), default=0.0))
        self._jobs = [job for job in self._jobs if id(job) not in gone]
        if not self._jobs:
            self._ends.clear()
        elif len(self._ends) > 2 * len(self._jobs):
            self._ends = {client: end for client, end in self._ends.items() if end > self._now}


def _weight(job: Job) -> float:
    return max(job.cost(), LEAST * job.size)


def seconds_of(jobs: Iterable[Job]) -> float:
    """Seconds of jobs, those of one key in one batch, as far as known."""
    sizes: dict[Hashable, int] = {}
    of: dict[Hashable, Job] = {}
    for job in jobs:
        key = job.key
        sizes[key] = sizes.get(key, 0) + job.size
        of[key] = job
    return math.fsum(job.served.latency(job.kind).predict(sizes[key]) for key, job in of.items())
