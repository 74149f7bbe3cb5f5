"""What the engine's thread works on: samples, edits and samples whose steps are shown."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unistep.core.condition import concat
from unistep.core.values import Value
from unistep.generation.requests import CancelledError, Plan, Watch, noise_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unistep.serving.pool import Served


class BusyError(RuntimeError):
    """There is no room for more; ``seconds`` says when there may be."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


OWN = "unistep"
"""Client of the server's own work, for which there is always room."""


class ShareError(BusyError):
    """A client has its part of the places already, and others want theirs."""

    def __init__(self, held: int, seconds: float) -> None:
        super().__init__(f"{held} of your requests are here already, and others want their turn", seconds)


class LateError(RuntimeError):
    """The deadline of a request is over."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Done:
    """A result, and what became of its request."""

    signals: Tensor
    """Signals ``[n, *signal_shape]`` on the CPU."""
    waited: float
    """Seconds in the queue."""
    took: float
    """Seconds in the network, together with the rest of the batch."""
    batch: int
    """Items of the batch."""


@dataclass(kw_only=True, eq=False)
class Job(ABC):
    """Something for the network that has a deadline; those of one key go through it together."""

    served: Served
    """The model."""
    deadline: float
    """When the answer must be there, by :func:`time.monotonic`."""
    client: str = ""
    """Who asked: clients take turns."""
    turn: float = 0.0
    """When its turn is, in seconds of network that each client has had; see :class:`unistep.serving.turns.Turns`."""
    turn_end: float = 0.0
    """When the next one of its client may be."""
    future: Future[Done] = field(default_factory=Future)
    """The answer."""
    submitted: float = field(default_factory=time.monotonic)
    """When it was asked for."""

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What the jobs of a batch agree in."""

    @property
    @abstractmethod
    def kind(self) -> Hashable:
        """What jobs that take equally long agree in; key of :attr:`Served.latencies`."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Items."""

    @staticmethod
    @abstractmethod
    def run(batch: Sequence[Any], stop: Callable[[], bool]) -> list[Tensor]:
        """The signals of each job of a batch; raises :class:`CancelledError` where ``stop`` says so."""

    def cost(self) -> float:
        """Seconds that it takes by itself, as far as known."""
        return self.served.latency(self.kind).predict(self.size)


def kind_of(plan: Plan) -> Hashable:
    """What samples that take equally long agree in: steps, solver, and whether guidance has the network called twice.

    Args:
        plan: How they are sampled.
    """
    return (len(plan.grid), plan.solver, plan.guidance != 1)


@dataclass(kw_only=True, eq=False)
class SampleJob(Job):
    """One sample."""

    seed: int
    """Its seed."""
    plan: Plan
    """How it is sampled."""
    condition: Mapping[str, Value]
    """All conditions of it, of one item."""
    toward: tuple[int, float] | None = None
    """As :attr:`unistep.generation.requests.Request.toward`."""

    @property
    def kind(self) -> Hashable:
        """Steps, solver, and whether there is guidance; not its weight, of which there are any number."""
        return kind_of(self.plan)

    @property
    def key(self) -> Hashable:
        """Model, steps, solver, guidance and the names of the conditions."""
        return (self.served.name, self.plan.key, *sorted(self.condition))

    @property
    def size(self) -> int:
        """One."""
        return 1

    @staticmethod
    def run(batch: Sequence[Any], stop: Callable[[], bool]) -> list[Tensor]:
        """The samples, each the same as by itself."""
        first = batch[0]
        generator = first.served.generator
        seeds = [job.seed for job in batch]
        noise = noise_of(generator, seeds, [job.toward for job in batch])
        condition = concat([job.condition for job in batch])
        x = generator.batch(seeds, first.plan, condition, Watch(1, cancel=stop), noise)
        return list(x.split(1))


@dataclass(kw_only=True, eq=False)
class ShownJob(SampleJob):
    """One sample whose intermediate steps are shown; it goes through the network by itself."""

    show: Callable[[int, Tensor], object]
    """Called with the number of a step and the signal ``[1, *signal_shape]`` that it gives."""
    at: Collection[int]
    """Numbers of the steps to show, from 1."""

    @property
    def key(self) -> Hashable:
        """Itself."""
        return id(self)

    @staticmethod
    def run(batch: Sequence[Any], stop: Callable[[], bool]) -> list[Tensor]:
        """The sample."""
        (job,) = batch
        noise = noise_of(job.served.generator, [job.seed], [job.toward])
        return [job.served.generator.batch([job.seed], job.plan, job.condition, _Showing(job, stop), noise)]


class _Showing(Watch):
    """Decodes what the sampler has after the steps that are shown."""

    def __init__(self, job: ShownJob, stop: Callable[[], bool]) -> None:
        super().__init__(len(job.plan.grid), cancel=stop)
        self._job = job

    def last_of(self, steps: Iterable[Tensor]) -> Tensor:
        """The last value, once those before it were shown."""
        job = self._job

        def shown() -> Iterable[Tensor]:
            for number, x in enumerate(steps, start=1):
                if number in job.at:
                    job.show(number, job.served.generator.codec.decode(x.float()).cpu())
                yield x

        return super().last_of(shown())


@dataclass(kw_only=True, eq=False)
class CallJob(Job):
    """Any other work of a model, such as an edit; by itself."""

    what: str
    """Which work, such as ``edit/inpaint``."""
    steps: int
    """Network calls of each item."""
    items: int
    """Items."""
    call: Callable[[Callable[[], bool]], Tensor]
    """Does it, and asks after each step whether to stop."""

    @property
    def kind(self) -> Hashable:
        """The work, and its steps."""
        return (self.what, self.steps)

    @property
    def key(self) -> Hashable:
        """Itself."""
        return id(self)

    @property
    def size(self) -> int:
        """Items."""
        return self.items

    @staticmethod
    def run(batch: Sequence[Any], stop: Callable[[], bool]) -> list[Tensor]:
        """Its result."""
        return [job.call(stop) for job in batch]


__all__ = ["BusyError", "CallJob", "CancelledError", "Done", "Job", "LateError", "SampleJob", "ShareError", "ShownJob"]
