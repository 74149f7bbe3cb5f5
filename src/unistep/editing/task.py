"""The contract of a task of editing, and the options that tasks take."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from unistep.core.seeding import ItemGenerators, derived_seed, randn_like
from unistep.editing.constraints import Linear
from unistep.editing.masks import as_mask, parse_mask
from unistep.editing.options import TaskOptions
from unistep.editing.solvers import Problem, Settings
from unistep.modalities.layout import Layout

WEAKEST, STRONGEST = 0.05, 80.0
"""Noise levels of the strengths 0 and 1."""
LARGEST = 1e6
"""Largest number that an option may be: far beyond what any means, and within float32."""


@dataclass(frozen=True, kw_only=True)
class EditOptions(TaskOptions):
    """What tasks can be given; from Python also tensors and operators."""

    mask: str | Tensor | None = None
    """What to make anew: a text that :func:`~unistep.editing.masks.parse_mask` reads, or what
    :func:`~unistep.editing.masks.as_mask` takes."""
    kernel: str | Tensor | None = None
    """What blurred the input: a text that :func:`~unistep.editing.blur.parse_kernel` reads, or its values."""
    operator: Any = None
    """Anything with ``A`` and ``A_dagger``."""

    def __post_init__(self) -> None:
        """Check that numbers are finite numbers, and places what can be a place.

        Raises:
            ValueError: If one is none.
        """
        for name in ("factor", "sigma", "cutoff", "level", "known", "strength"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
                raise ValueError(f"{name} must be a number, got {value!r:.80}")
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
            if value is not None and math.fabs(value) > LARGEST:
                raise ValueError(f"{name} must be at most {LARGEST:g}, got {value}")
        for name in ("mask", "kernel"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str | Tensor)):
                raise ValueError(
                    f"{name} must be a text or a torch tensor, got {type(value).__name__}; torch.as_tensor makes one"
                )


OPTIONS = tuple(option.name for option in fields(EditOptions))
"""Names of the options."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a task works on besides its options."""

    shape: tuple[int, ...]
    """Shape of one result."""
    layout: Layout
    """What its axes mean."""
    noun: str
    """What one is called."""
    read_mask: Callable[[str], Tensor] | None = None
    """Reads a file of a mask."""


class Task(ABC):
    """One task: what it takes, and the problem that signals and options make. Registered as a ``task``.

    Args:
        options: What was given.
        given: What it works on.

    Raises:
        ValueError: If such signals have no such task, or an option is missing or out of range.
    """

    summary: ClassVar[str]
    """What it does, in one line."""
    takes: ClassVar[tuple[str, ...]] = ()
    """Names of the options that it takes."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Names of those that it cannot do without."""
    inputs: ClassVar[int] = 1
    """Signals that make one result."""
    optional: ClassVar[bool] = False
    """Whether there may be none of them, so that it makes results from noise."""
    together: ClassVar[bool] = True
    """Whether several inputs are edited in one batch, each by itself, rather than one call after the other."""
    in_streams: ClassVar[bool] = True
    """Whether it can be done chunk by chunk, from left to right in time."""
    settings: ClassVar[Settings] = Settings()
    """Parameters of the solver where no search has found better ones."""
    least_first: ClassVar[float] = 0.0
    """Lowest first noise level that a search may choose: below it, what is missing would stay as it is guessed."""
    begins_low: ClassVar[bool] = False
    """Whether a many-step denoiser, too, begins at these noise levels rather than at the highest."""

    def __init__(self, options: EditOptions, given: Given) -> None:
        self.options, self.given = options, given
        for name in self.needs:
            if getattr(options, name) is None:
                raise ValueError(f"{self.name()} needs {name.replace('_', '-')}")
        self.check()

    @classmethod
    def name(cls) -> str:
        """Its name, that of the class in lower case."""
        return cls.__name__.lower()

    def check(self) -> None:  # noqa: B027 - most tasks take any signals
        """Raise if such signals have no such task, or an option is out of range."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input; that of a result without."""
        return self.given.shape

    @property
    def known_moments(self) -> int:
        """Steps in time from the beginning that are taken from an input, which must have so many of its own."""
        return 0

    @abstractmethod
    def problem(self, *x: Tensor) -> Problem:
        """What is to be done with a batch of inputs, ``[b, *input_shape]`` each.

        Raises:
            ValueError: If they cannot be edited so.
        """

    def degraded(self, x: Tensor) -> Tensor:
        """Inputs made of clean signals ``[b, *shape]``, for measuring how well they are restored.

        Raises:
            ValueError: If the task undoes nothing.
        """
        del x
        raise ValueError(f"{self.name()} undoes nothing, so that there is nothing to degrade")

    def check_degradable(self) -> None:
        """Raise at once if there is nothing to degrade; see :meth:`degraded`."""
        self.degraded(torch.zeros(1, *self.given.shape))

    def tuned(self, settings: Settings) -> Settings:
        """The parameters with what the options say of them."""
        return settings

    @property
    def sigma(self) -> float:
        """The noise on the input, as it was given."""
        return 0.0 if self.options.sigma is None else self.options.sigma

    @property
    def key(self) -> str:
        """By which parameters of the solver are kept: the name, and whether the input has noise."""
        return f"{self.name()}-noisy" if self.sigma > 0 else self.name()

    def noisy(self, x: Tensor, seeds: list[int]) -> Tensor:
        """Inputs with noise of the given standard deviation, each from its seed."""
        if self.sigma == 0:
            return x
        return x + self.sigma * randn_like(x, ItemGenerators([derived_seed("degrade", seed) for seed in seeds]))

    def mask(self, num: int) -> Tensor:
        """What to make anew, as truth values that broadcast against a batch of ``num`` signals."""
        mask, shape = self.options.mask, self.given.shape
        if isinstance(mask, Tensor):
            return as_mask(mask, num, shape)
        return parse_mask(str(mask), shape, self.given.layout, self.given.read_mask)

    def require(
        self, *, space: bool = False, time: bool = False, colours: bool = False, waveform: bool = False
    ) -> None:
        """Raise where signals lack what the task is about.

        Raises:
            ValueError: Saying what they lack.
        """
        layout, noun, name = self.given.layout, self.given.noun, self.name()
        if space and not layout.space:
            raise ValueError(f"there is no {name} of {noun}s: they have no rows and columns")
        if time and layout.time is None:
            raise ValueError(f"there is no {name} of {noun}s: they do not last in time")
        if colours and not layout.colours:
            raise ValueError(
                f"there is no {name} of these {noun}s: they have {self.given.shape[0]} channel, not colours"
            )
        if waveform and not layout.waveform:
            raise ValueError(f"there is no {name} of {noun}s: they are no waveforms")


class Restoration(Task):
    """A task that undoes a linear measurement."""

    @abstractmethod
    def operator(self, num: int) -> Any:
        """The measurement of a batch of ``num`` signals."""

    def measured(self, x: Tensor) -> Tensor:
        """What was measured, from inputs; the inputs themselves without."""
        return x

    def problem(self, *x: Tensor) -> Problem:
        """To find signals of that measurement."""
        y = self.measured(x[0])
        signal = torch.zeros(len(y), *self.given.shape, device=y.device)
        return Problem(constraint=Linear(self.operator(len(y)), y, self.sigma).checked(signal))

    def degraded(self, x: Tensor) -> Tensor:
        """What the operator measures of clean signals."""
        return self.operator(len(x)).A(x)


def level_of(strength: float | None, default: float) -> float:
    r"""The noise level of a strength in (0, 1], on a grid of Karras between weak and strong.

    .. math:: \left(a^{1/7} + s\,(b^{1/7} - a^{1/7})\right)^7, \quad a = 0.05, \quad b = 80

    Raises:
        ValueError: If the strength is out of range.
    """
    strength = default if strength is None else strength
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be above 0 and at most 1, got {strength}")
    low, high = WEAKEST ** (1 / 7), STRONGEST ** (1 / 7)
    return (low + strength * (high - low)) ** 7


def known_part(num: int, mask: Tensor, x: Tensor, sigma: float = 0.0) -> Linear:
    """That signals are known outside of a mask."""
    from unistep.editing.operators import Mask

    operator = Mask(~mask, each=len(mask) > 1)
    return Linear(operator, operator.A(x), torch.full((num,), sigma))
