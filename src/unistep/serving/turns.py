"""What waits for the network, in an order in which clients take turns."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
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
        self._groups = Groups()
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
            job.turn_end = ends[job.client] = job.turn + max(job.cost(), LEAST * job.size)

    def before(self, turn: float) -> Groups:
        """Those that wait for a turn no later than this one."""
        if not self._jobs or self._jobs[-1].turn <= turn:
            return self._groups.copy()  # of all, as where there is one client: nothing is counted again
        return Groups(self._jobs[: bisect_right(self._jobs, turn, key=_turn)])

    def add(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait that have their turns."""
        for job in jobs:
            insort(self._jobs, job, key=_turn)
            self._ends[job.client] = max(self._ends.get(job.client, 0.0), job.turn_end)
            self._groups.add(job)
            if job.client != OWN:
                self.shares.take(job.client, job.size)

    def remove(self, jobs: Collection[Job]) -> None:
        """Take jobs out, whose turn it is."""
        gone = {id(job) for job in jobs}
        for job in jobs:
            self._groups.remove(job)
            if job.client != OWN:
                self.shares.give(job.client, job.size)
        self._now = max(self._now, min((job.turn for job in jobs), default=0.0))
        self._jobs = [job for job in self._jobs if id(job) not in gone]
        if not self._jobs:
            self._ends.clear()
        elif len(self._ends) > 2 * len(self._jobs):
            self._ends = {client: end for client, end in self._ends.items() if end > self._now}

    @property
    def seconds(self) -> float:
        """Seconds of all jobs, as far as known."""
        return self._groups.seconds


class Groups:
    """How many items there are of each key, and so how long jobs take, those of one key in one batch.

    Args:
        jobs: The jobs.
    """

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._groups: dict[Hashable, tuple[Job, int]] = {}
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        """Count a job."""
        key = job.key
        found = self._groups.get(key)
        self._groups[key] = (job, job.size) if found is None else (found[0], found[1] + job.size)

    def remove(self, job: Job) -> None:
        """Count a job no more."""
        key = job.key
        one, size = self._groups.pop(key)
        if size > job.size:
            self._groups[key] = (one, size - job.size)

    def copy(self) -> Groups:
        """The same, to add others to."""
        found = Groups()
        found._groups = dict(self._groups)
        return found

    @property
    def seconds(self) -> float:
        """Seconds of all of them, as far as known."""
        return math.fsum(job.served.latency(job.kind).predict(size) for job, size in self._groups.values())
