"""Who asks a server for something."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, eq=False)
class Caller:
    """A client, and the place that its request takes among those that are answered."""

    name: str = ""
    """What its limits count against: a key or an address."""
    deadline: float = float("inf")
    """When the network must be done with it, by :func:`time.monotonic`: a little before the answer must be there."""
    done: Callable[[], object] = lambda: None
    """Called once the network is done with it; an answer that begins too late after that is refused."""
    aside: Callable[[], AbstractContextManager[object]] = nullcontext
    """For a request that waits for something other than the network: nobody lacks its place meanwhile."""
