"""What a backend is: another program that computes the network call of a model, for any sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
from torch import nn

from unistep.backends.call import Call
from unistep.core.flowmap import NetworkCall
from unistep.registry import entries, lookup

BackendPrecision = Literal["fp32", "bf16", "int8"]
"""Arithmetic of a network that a backend runs."""
PRECISIONS: tuple[BackendPrecision, ...] = get_args(BackendPrecision)


class BackendError(ValueError):
    """A backend cannot run a network, or not here."""


class Backend(ABC):
    """A program that computes the network call ``net(x, t, s, condition)``; a class, registered as a ``backend``.

    What it prepares is called by several threads at once, with batches of any size, without gradients.
    """

    name: ClassVar[str]
    """How it is called."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Importable names of what it needs."""
    extra: ClassVar[str | None] = None
    """The extra of Unistep that brings them."""
    precisions: ClassVar[tuple[BackendPrecision, ...]] = ("fp32",)
    """The arithmetic that it has."""
    slow_to_prepare: ClassVar[bool] = False
    """Whether preparing takes so long that it is used only where it is asked for by name."""

    @classmethod
    def missing(cls) -> list[str]:
        """Which of its packages are not installed."""
        return [package for package in cls.packages if find_spec(package) is None]

    @classmethod
    def problem(cls, device: torch.device) -> str | None:
        """Why it cannot run on a device of this computer, in words and with the remedy; ``None`` if it can."""
        missing = cls.missing()
        return f"the backend {cls.name} needs {', '.join(missing)}: {cls.remedy()}" if missing else None

    @classmethod
    def remedy(cls) -> str:
        """The command that installs what it needs."""
        return "pip install " + (f"'unistep[{cls.extra}]'" if cls.extra else " ".join(cls.packages))

    @abstractmethod
    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        """What computes ``net`` for calls like ``calls``; others it leaves to ``net`` itself.

        Args:
            net: The network, in evaluation mode.
            calls: Calls that its model made. All have one form (:attr:`Call.form`) and two items or more; their values
                are those of samples, from which quantisation takes its ranges.
            precision: One of :attr:`precisions`.
            folder: Where files of these weights are kept. They are never changed, and those that are there are used.
            device: Where the network is.

        Raises:
            BackendError: If it cannot.
        """


def backends() -> dict[str, type[Backend]]:
    """The backends by name."""
    return {name: lookup("backend", name) for name in entries("backend")}
