"""What a model can be told: named fields, classes or numbers, and dropping them for guidance."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor

from unistep.core.seeding import Randomness, randint, uniform
from unistep.spelling import nearest_hint

Condition = Mapping[str, Tensor]
"""Named fields of a batch, each of shape ``[b]``: integers, of which a negative one means "none", or floating numbers,
of which NaN does. Beside them there may be :data:`CONTEXT`, which is a signal."""

CONTEXT, CONTEXT_NOISE = "context", "context_noise"
"""What came before, ``[b, *shape]``, and the level of the noise on it; see ``unistep.generation.history``."""

CONDITIONS = ("label", "instrument", "pitch", "velocity")
"""The fields that models of known data take."""

GUIDANCE = "guidance"
"""The field of a guidance weight, which a model answers for itself rather than a sampler by asking twice."""

ConditionValue = int | float | str
"""One value of a field, as a person gives it."""


@dataclass(frozen=True, kw_only=True)
class LabelField:
    """A field of whole numbers, such as classes, with a name for each value where there are any.

    The network is given the position of a value, from 0 to ``size - 1``.
    """

    kind: ClassVar[str] = "label"

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
        if self.numbers:
            return f"one of {self.table}"
        if not self.names:
            return extent
        if len(self.names) > 16:
            return f"{extent}, or {self.names[0]} to {self.names[-1]}"
        return f"{extent} ({self.table})"

    def draw(self, num: int, generator: Randomness) -> Tensor:
        """Positions drawn evenly, shape ``[num]``: for items that were told nothing."""
        return randint(self.size, num, generator)

    def parse(self, name: str, value: object) -> int:
        """The position of ``value`` (a number or a name).

        Raises:
            ValueError: If it is neither in range nor a name of the field; says what is.
        """
        text = _text(value)
        lowered = [n.lower() for n in self.names]
        if text.lower() in lowered:
            return lowered.index(text.lower())
        lowest = self.written[0]
        number = note_number(text) if self.names[:1] == note_names(lowest, lowest) else None
        try:
            number = int(text) if number is None else number
        except ValueError:
            hint = nearest_hint(text, self.names)
            raise ValueError(f"{name} must be {self.choices}, got {text!r}{hint}") from None
        if number not in self.written:
            raise ValueError(f"{name} must be {self.choices}, got {number if text == str(number) else repr(text)}")
        return self.written.index(number)


@dataclass(frozen=True, kw_only=True)
class ScalarField:
    """A field of real numbers, such as a guidance weight or how hard a key is struck."""

    kind: ClassVar[str] = "scalar"

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    default: float | None = None
    """Value of items that were told nothing; drawn evenly from the range without."""

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

    def draw(self, num: int, generator: Randomness) -> Tensor:
        """The default, or numbers drawn evenly, shape ``[num]``: for items that were told nothing."""
        if self.default is not None:
            return torch.full((num,), self.default)
        return self.low + (self.high - self.low) * uniform(num, generator)

    def parse(self, name: str, value: object) -> float:
        """``value`` as a number.

        Raises:
            ValueError: If it is no number or out of range; says which are in it.
        """
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not self.low <= number <= self.high:
            raise ValueError(f"{name} must be {self.choices}, got {str(value).strip()!r}")
        return number


def _text(value: object) -> str:
    """A value as a person would write it: a whole number of any library without a point."""
    if not isinstance(value, str) and is_one(value):
        number = float(value)  # type: ignore[arg-type]
        return str(int(number)) if number.is_integer() else str(number)
    return str(value).strip()


AnyField = LabelField | ScalarField
"""What a model can declare under a name."""


_SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def note_names(low: int, high: int) -> tuple[str, ...]:
    """Names of the pitches from ``low`` to ``high`` as MIDI counts them: 60 is C4, 61 is C#4."""
    return tuple(f"{_SHARPS[number % 12]}{number // 12 - 1}" for number in range(low, high + 1))


def note_number(name: str) -> int | None:
    """The MIDI number of a pitch such as ``C4``, ``F#3`` or ``Db4``; ``None`` for any other word."""
    match = re.fullmatch(r"([A-Ga-g])([#♯b♭]?)(-?\d+)", name)
    if match is None:
        return None
    letter, accidental, octave = match.groups()
    shift = {"": 0, "#": 1, "♯": 1}.get(accidental, -1)
    return _SHARPS.index(letter.upper()) + shift + 12 * (int(octave) + 1)


def parse_condition(fields: Mapping[str, AnyField], given: Mapping[str, Any], count: int) -> dict[str, Tensor]:
    """Turn named values into a batch of ``count``; one value serves all items, a sequence one each.

    Args:
        fields: The fields that the model declares.
        given: Values by field name, each one of :data:`ConditionValue` or several; ``None`` leaves a field out.
        count: Number of items.

    Returns:
        Tensors of shape ``[count]`` for the fields that were given: int64 for a :class:`LabelField`, float32 for a
        :class:`ScalarField`.

    Raises:
        ValueError: For an unknown field, a value out of range, or a sequence of the wrong length.
    """
    condition: dict[str, Tensor] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none: it is unconditional"
            raise ValueError(f"this model has no condition {name!r}; it takes {known}")
        spec = fields[name]
        values = [value] * count if is_one(value) else _several(name, value)
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} values for {count} samples; give one, or one for each")
        kind = torch.long if isinstance(spec, LabelField) else torch.float32
        condition[name] = torch.tensor([spec.parse(name, v) for v in values], dtype=kind)  # type: ignore[arg-type]
    return condition


def is_one(value: object) -> TypeGuard[ConditionValue]:
    """Whether it is one value of a field, a number of any library or a text, and not several."""
    return isinstance(value, str | numbers.Real) or getattr(value, "ndim", None) == 0


def _several(name: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise ValueError(f"{name} must be a number, a text, or several of them, got {values!r}") from None


def drop(condition: Condition, probability: float, generator: Randomness) -> dict[str, Tensor]:
    """Replace all labels of a random share of the items by "none", as classifier-free guidance needs in training.

    Args:
        condition: Fields of shape ``[b]``.
        probability: Share of items to drop.
        generator: Source of randomness.

    References:
        Ho & Salimans 2022, arXiv 2207.12598, algorithm 1.
    """
    told = labels(condition)
    if probability <= 0 or not told:
        return dict(condition)
    first = next(iter(told.values()))
    keep = uniform(len(first), generator).to(first.device) >= probability
    return {**condition, **{name: torch.where(keep, value, _none(value)) for name, value in told.items()}}


def null_condition(condition: Condition) -> dict[str, Tensor]:
    """The condition whose labels say nothing, for as many items."""
    return {**condition, **{name: torch.full_like(value, _none(value)) for name, value in labels(condition).items()}}


def labels(condition: Condition) -> dict[str, Tensor]:
    """The fields of shape ``[b]`` that say what is wanted: all but what came before, which is given."""
    return {name: value for name, value in condition.items() if name not in (CONTEXT, CONTEXT_NOISE)}


def has_condition(value: Tensor) -> Tensor:
    """Which items a label says something of, shape ``[b]``."""
    return ~value.isnan() if value.is_floating_point() else value >= 0


def _none(value: Tensor) -> float:
    return math.nan if value.is_floating_point() else -1
