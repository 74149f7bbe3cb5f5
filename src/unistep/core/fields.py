"""What a model can be conditioned on: the fields that it declares, each of which reads what a person gives."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unistep.core.note_names import note_names, note_number
from unistep.core.seeding import Randomness, randint, uniform
from unistep.core.values import Label, Scalar, Value
from unistep.spelling import nearest_hint

ConditionValue = int | float | str | Path | Tensor
"""One value of a field, as a person gives it: a number, a name, a file, or the tokens or signal themselves."""

ReadSignal = Callable[[Path], Tensor]
"""Reads a file as one signal ``[*shape]``, as the model's modality does."""


class ConditionField(ABC):
    """A condition that a model declares under a name: a frozen dataclass, registered as a ``field``."""

    REGISTRY_KIND: ClassVar[str] = "field"

    kind: ClassVar[str]
    """What its values are: ``label``, ``scalar``, ``vector``, ``tokens`` or ``signal``; a network looks at this."""
    value: ClassVar[type[Value]]
    """The class of its values."""
    drawn: ClassVar[bool] = True
    """Whether :meth:`draw` gives values such as data has; else it gives the null condition."""
    played: ClassVar[bool] = False
    """Whether it is what a player does, frame by frame."""
    asked: ClassVar[bool] = True
    """Whether it is for people to give, on the command line and in tables."""
    augmentable: ClassVar[bool] = True
    """Whether a value is still true of an item that is augmented, such as mirrored."""

    @property
    @abstractmethod
    def extent(self) -> str:
        """How much it can hold, for tables."""

    @property
    @abstractmethod
    def choices(self) -> str:
        """The values in words, for help and messages."""

    @property
    def table(self) -> str:
        """All values in words."""
        return self.choices

    @property
    def schema(self) -> dict[str, Any]:
        """What it takes, for programs: its kind, and what else is known, as JSON can hold it."""
        return {"kind": self.kind, "choices": self.choices}

    @property
    def takes_words(self) -> bool:
        """Whether a text of a person's own words, or a name, is a value of it."""
        return False

    def from_json(self, name: str, given: Any) -> ConditionValue:
        """A value that comes from a stranger: what JSON can hold, and never the name of a file.

        Args:
            name: Name of the field, for messages.
            given: A number, a text or a list of numbers.

        Raises:
            ValueError: If it is no value of such a field.
        """
        if type(given) not in (int, float, str) or (isinstance(given, int) and abs(given) >= 2**63):
            raise ValueError(f"{name} must be {self.choices}, got {type(given).__name__}")
        return given

    @property
    def default_text(self) -> str | None:
        """The value of items that are given none, in words; ``None`` where it is drawn."""
        return None

    def agrees(self, other: ConditionField) -> bool:
        """Whether values of another field of this name mean the same to a network."""
        return self == other

    @abstractmethod
    def null(self, num: int) -> Value:
        """The null condition of ``num`` items."""

    @abstractmethod
    def draw(self, num: int, generator: Randomness) -> Value:
        """Values of ``num`` items that are given none."""

    def words(self, value: Any) -> list[str | float] | None:
        """Values as a person would write them, one for each item; empty for the null condition.

        Args:
            value: The values; ``None`` only asks whether they have words at all.

        Returns:
            The words; ``None`` for a field whose values have none, such as a signal.
        """
        del value
        return None

    def is_one(self, given: Any) -> bool:
        """Whether it is one value, rather than several."""
        return is_one(given)

    def parse(self, name: str, given: Any, count: int, read: ReadSignal | None = None) -> Value:
        """The values of ``count`` items: one value serves all of them, several one each.

        Args:
            name: Name of the field, for messages.
            given: A :data:`ConditionValue`, several of them (of which ``None`` stands for the null condition), or a
                :class:`~unistep.core.values.Value`.
            count: Number of items.
            read: Reads files that hold a signal.

        Raises:
            ValueError: If a value is not one of the field's; says which are.
        """
        if isinstance(given, Value):
            return self._checked(name, given, count)
        if self.is_one(given):
            return self._read(name, [given], read).select([0] * count)
        values = self._several(name, given)
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} values for {count} samples; give one, or one for each")
        present = [i for i, value in enumerate(values) if value is not None]
        if not present:
            return self.null(count)
        found = self._read(name, [values[i] for i in present], read)
        if len(present) == count:
            return found
        has = torch.zeros(count, dtype=torch.bool)
        has[present] = True
        filled = found.select(has.long().cumsum(0).sub(1).clamp(min=0))
        return filled.where(has, filled.null())

    @abstractmethod
    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Value:
        """The values of as many items as there are ``values``, at least one."""

    def to_columns(self, name: str, given: Sequence[Any]) -> dict[str, np.ndarray]:
        """Arrays that a data cache keeps of some items; those of the next items are appended to them.

        Args:
            name: Name of the field, for messages.
            given: What the source says of each item, ``None`` for nothing.
        """
        return self.parse(name, given, len(given)).arrays()

    def from_columns(
        self, columns: Mapping[str, np.ndarray], rows: np.ndarray, seeds: Sequence[int] | None = None
    ) -> Value:
        """The values of some items.

        Args:
            columns: What :meth:`to_columns` gave for all items.
            rows: Numbers of the items.
            seeds: A seed for each in training, for fields whose items have several values.
        """
        del seeds
        return self.value.from_arrays({key: array[rows] for key, array in columns.items()})

    def _several(self, name: str, given: Any) -> list[Any]:
        try:
            return list(given)
        except TypeError:
            raise ValueError(f"{name} must be {self._expected}, or several of them, got {given!r}") from None

    @property
    def _expected(self) -> str:
        """What one value is, for messages."""
        return "a number, a text"

    def _checked(self, name: str, given: Value, count: int) -> Value:
        if not isinstance(given, self.value):
            raise ValueError(f"{name} must be a {self.value.__name__}, got a {type(given).__name__}")
        given.check(name, self)
        if len(given) not in (1, count):
            raise ValueError(f"{name} has {len(given)} values for {count} samples; give one, or one for each")
        return given if len(given) == count else given.select([0] * count)


@dataclass(frozen=True, kw_only=True)
class LabelField(ConditionField):
    """A field of whole numbers, such as classes, with a name for each value where there are any.

    The network gets the position of a value, from 0 to ``size - 1``.
    """

    kind: ClassVar[str] = "label"
    value: ClassVar[type[Value]] = Label

    size: int
    """Number of values."""
    names: tuple[str, ...] = ()
    """Names of the values, in order; empty where they have none."""
    first: int = 0
    """The smallest value, as a person writes it."""
    numbers: tuple[int, ...] = ()
    """The values as a person writes them, in rising order, where they are not in a row from ``first``."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if self.size < 1 or len(self.names) not in (0, self.size):
            raise ValueError(f"a field needs at least one value, and a name for each or none, got {self}")
        if self.numbers and (len(self.numbers) != self.size or sorted(set(self.numbers)) != list(self.numbers)):
            raise ValueError(f"a field needs a number for each value, in rising order, or none, got {self}")

    @property
    def written(self) -> Sequence[int]:
        """The values in order, as a person writes them."""
        return self.numbers or range(self.first, self.first + self.size)

    @property
    def last(self) -> int:
        """The largest value, as a person writes it."""
        return self.written[-1]

    @property
    def extent(self) -> str:
        """The number of values, for tables."""
        return str(self.size)

    @property
    def table(self) -> str:
        """All values with their names."""
        named = self.names or [""] * self.size
        return ", ".join(f"{number} {name}".rstrip() for number, name in zip(self.written, named, strict=True))

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        extent = f"{self.written[0]} to {self.last}"
        if self.numbers or not self.names:
            return f"one of {self.table}" if self.numbers else extent
        if len(self.names) > 16:
            return f"{extent}, or {self.names[0]} to {self.names[-1]}"
        return f"{extent} ({self.table})"

    @property
    def schema(self) -> dict[str, Any]:
        """Names, or numbers where there are none."""
        return {**super().schema, "names": list(self.names), "numbers": [] if self.names else list(self.written)}

    @property
    def takes_words(self) -> bool:
        """Whether the values have names."""
        return bool(self.names)

    def null(self, num: int) -> Label:
        """No class for ``num`` items."""
        return Label(torch.full((num,), -1))

    def draw(self, num: int, generator: Randomness) -> Label:
        """Classes drawn evenly."""
        return Label(randint(self.size, num, generator))

    @property
    def known(self) -> Sequence[str | int]:
        """What :meth:`position` finds each value by: its name, which may look like another's number, or its number."""
        return self.names or self.written

    def words(self, value: Label | None) -> list[str | float]:
        """Names, or numbers where there are none; empty for the null condition."""
        return [self.known[at] if at >= 0 else "" for at in ([] if value is None else value.index.tolist())]

    def position(self, name: str, value: object) -> int:
        """The position of ``value`` (a number or a name).

        Raises:
            ValueError: If it is neither in range nor a name of the field; says what is.
        """
        text, lowered = _text(value), [n.lower() for n in self.names]
        # As it is written first: two names may differ in capitals alone, as letters do.
        for names, wanted in ((list(self.names), str(value)), (lowered, text.lower())):
            if wanted in names:
                return names.index(wanted)
        lowest = self.written[0]
        number = note_number(text) if self.names[:1] == note_names(lowest, lowest) else None
        try:
            number = int(text) if number is None else number
        except ValueError:
            raise ValueError(f"{name} must be {self.choices}, got {text!r}{nearest_hint(text, self.names)}") from None
        if number not in self.written:
            raise ValueError(f"{name} must be {self.choices}, got {number if text == str(number) else repr(text)}")
        return self.written.index(number)

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Label:
        return Label(torch.tensor([self.position(name, value) for value in values], dtype=torch.long))


@dataclass(frozen=True, kw_only=True)
class ScalarField(ConditionField):
    """A field of real numbers, such as a guidance weight or how hard a key is struck."""

    kind: ClassVar[str] = "scalar"
    value: ClassVar[type[Value]] = Scalar

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    default: float | None = None
    """Value of items that are given none; without it, one is drawn evenly from the range."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        inside = self.default is None or self.low <= self.default <= self.high
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high and inside):
            raise ValueError(f"a range needs finite low < high, with the default between them, got {self}")

    @property
    def extent(self) -> str:
        """The range, for tables."""
        return f"{self.low:g} to {self.high:g}"

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        return f"a number from {self.low:g} to {self.high:g}"

    @property
    def default_text(self) -> str | None:
        """The default in words."""
        return None if self.default is None else f"{self.default:g}"

    @property
    def schema(self) -> dict[str, Any]:
        """The range and the default."""
        return {**super().schema, "low": self.low, "high": self.high, "default": self.default}

    def null(self, num: int) -> Scalar:
        """No number for ``num`` items."""
        return Scalar(torch.full((num,), math.nan))

    def draw(self, num: int, generator: Randomness) -> Scalar:
        """The default, or numbers drawn evenly."""
        if self.default is not None:
            return Scalar(torch.full((num,), self.default))
        return Scalar(self.low + (self.high - self.low) * uniform(num, generator))

    def words(self, value: Scalar | None) -> list[str | float]:
        """The numbers, rounded to six digits; empty for the null condition."""
        return ["" if math.isnan(n) else float(f"{n:.6g}") for n in ([] if value is None else value.value.tolist())]

    def number(self, name: str, value: object) -> float:
        """``value`` as a number.

        Raises:
            ValueError: If it is no number or out of range; says which are in it.
        """
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not self.low <= number <= self.high:
            raise ValueError(f"{name} must be {self.choices}, got {str(value).strip()!r}")
        return number

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Scalar:
        return Scalar(torch.tensor([self.number(name, value) for value in values], dtype=torch.float32))


def asked(fields: Mapping[str, ConditionField]) -> dict[str, ConditionField]:
    """The fields that are for people to give."""
    return {name: spec for name, spec in fields.items() if spec.asked}


def is_one(value: object) -> bool:
    """Whether it is one number of any library, one text or one file, and not several."""
    return isinstance(value, str | Path | numbers.Real) or getattr(value, "ndim", None) == 0


def _text(value: object) -> str:
    """A value as a person would write it: a whole number of any library without a point."""
    if not isinstance(value, str | int) and is_one(value):  # an int may be too large for a float
        number = float(value)  # type: ignore[arg-type]
        return str(int(number)) if number.is_integer() else str(number)
    return str(value).strip()
