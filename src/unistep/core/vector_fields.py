"""The condition that says how an item was made, which no person is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from unistep.core.fields import ConditionField, ReadSignal
from unistep.core.seeding import Randomness
from unistep.core.signal_fields import as_tensor, listed
from unistep.core.values import Value, Vector


@dataclass(frozen=True, kw_only=True)
class VectorField(ConditionField):
    """A field of vectors that say how an item was made, such as how it was augmented.

    Samples are items as they are, whose vector is zero. A value is a tensor or array ``[size]``.
    """

    kind: ClassVar[str] = "vector"
    value: ClassVar[type[Value]] = Vector
    asked: ClassVar[bool] = False

    size: int
    """Numbers of a vector."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the value and what was expected.
        """
        if self.size < 1:
            raise ValueError(f"a vector needs a size of at least 1, got {self.size}")

    @property
    def extent(self) -> str:
        """The size, for tables."""
        return str(self.size)

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        return f"{self.size} numbers that say how an item was made"

    @property
    def default_text(self) -> str | None:
        """Samples are items as they are."""
        return "zeros"

    def from_json(self, name: str, given: Any) -> torch.Tensor:
        """A list of numbers.

        Raises:
            ValueError: If it is none.
        """
        return listed(name, given, f"a list of {self.size} numbers")

    def null(self, num: int) -> Vector:
        """Zeros for ``num`` items."""
        return Vector(torch.zeros(num, self.size))

    def draw(self, num: int, generator: Randomness) -> Vector:
        """Zeros: a sample is an item as it is."""
        del generator
        return self.null(num)

    def is_one(self, given: Any) -> bool:
        """Whether it is one vector."""
        return getattr(given, "ndim", None) == 1

    @property
    def _expected(self) -> str:
        return f"an array [{self.size}]"

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Vector:
        del read
        found = [as_tensor(name, value) for value in values]
        wrong = next((list(tensor.shape) for tensor in found if tuple(tensor.shape) != (self.size,)), None)
        if wrong is not None:
            raise ValueError(f"{name} must be {self._expected}, got one of shape {wrong}")
        return Vector(torch.stack(found))
