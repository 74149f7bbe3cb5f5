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
    aside: Callable[[], AbstractContextManager[object]] = nullcontext
    """For a request that waits for something other than the network: nobody lacks its place meanwhile."""
