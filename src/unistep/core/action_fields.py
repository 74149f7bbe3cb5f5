"""What a player does: the condition of each frame of a world."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.fields import ConditionField, ReadSignal
from unistep.core.seeding import Randomness
from unistep.core.signal_fields import as_tensor, listed
from unistep.core.values import Action, Value
from unistep.spelling import nearest_hint

PRESET = r"[a-z][a-z0-9_-]*"
"""What names of presets look like."""


@dataclass(frozen=True, kw_only=True)
class ActionField(ConditionField):
    """A field of actions: one number for each control, such as steering and gas; zeros are doing nothing.

    A value is an array ``[size]`` for one frame, ``[frames, size]`` for a clip, or a text: names of :attr:`presets`
    joined by ``+``, ``none``, or the numbers themselves, such as ``left+gas`` or ``-1 1 0``. Of a clip, row ``j`` is
    the action under which frame ``j`` came about from frame ``j - 1``.
    """

    kind: ClassVar[str] = "vector"
    value: ClassVar[type[Value]] = Action
    drawn: ClassVar[bool] = False
    played: ClassVar[bool] = True
    augmentable: ClassVar[bool] = False

    names: tuple[str, ...]
    """Names of the controls, in order."""
    low: tuple[float, ...]
    """Smallest value of each, at most 0."""
    high: tuple[float, ...]
    """Largest value of each, at least 0."""
    presets: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Actions with names, such as those of keys; several at a time are added up."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"an action needs a control or more, with names of their own, got {list(self.names)}")
        if not len(self.names) == len(self.low) == len(self.high):
            raise ValueError(f"an action needs a low and a high for each of {list(self.names)}, got {self}")
        ranges = zip(self.low, self.high, strict=True)
        if not all(-math.inf < low <= 0 <= high < math.inf and low < high for low, high in ranges):
            raise ValueError(
                f"the range of a control must hold 0, which is doing nothing, and end, got {self.low}, {self.high}"
            )
        for name, numbers in self.presets.items():
            if not re.fullmatch(PRESET, name) or name == "none":
                raise ValueError(f"a preset needs a name in small letters other than none, got {name!r}")
            self._in_range(name, torch.tensor([float(number) for number in numbers]))

    @property
    def size(self) -> int:
        """Number of controls."""
        return len(self.names)

    @property
    def extent(self) -> str:
        """The number of controls, for tables."""
        return str(self.size)

    @property
    def choices(self) -> str:
        """The values in words, for help and messages."""
        ranges = zip(self.names, self.low, self.high, strict=True)
        numbers = ", ".join(f"{name} {low:g} to {high:g}" for name, low, high in ranges)
        named = f"{', '.join(self.presets)}, several joined by +, " if self.presets else ""
        return f"{named}none, or {self.size} numbers ({numbers})"

    @property
    def default_text(self) -> str | None:
        """Nothing is done."""
        return "none"

    @property
    def schema(self) -> dict[str, Any]:
        """The controls with their ranges, and the actions with names."""
        presets = {name: list(numbers) for name, numbers in self.presets.items()}
        controls = {"names": list(self.names), "low": list(self.low), "high": list(self.high)}
        return {**super().schema, "kind": "action", **controls, "presets": presets}

    def from_json(self, name: str, given: Any) -> str | Tensor:
        """A text, or a list of numbers, one for each control.

        Raises:
            ValueError: If it is neither, or out of range.
        """
        if isinstance(given, str):
            return self.action(name, given)
        return self._in_range(name, listed(name, given, self.choices))

    def null(self, num: int) -> Action:
        """Doing nothing, for ``num`` items."""
        return Action(torch.zeros(num, self.size))

    def draw(self, num: int, generator: Randomness) -> Action:
        """Doing nothing: what is not pressed is not pressed."""
        del generator
        return self.null(num)

    def is_one(self, given: Any) -> bool:
        """Whether it is one action, or those of one clip."""
        return isinstance(given, str) or getattr(given, "ndim", None) in (1, 2)

    def action(self, name: str, text: str) -> Float[Tensor, " size"]:
        """The action that a text names.

        Args:
            name: Name of the field, for messages.
            text: Presets joined by ``+``, ``none``, or the numbers.

        Raises:
            ValueError: If it is none; says which there are.
        """
        words = text.strip().lower()
        if words in ("", "none"):
            return torch.zeros(self.size)
        try:
            numbers = [float(word) for word in re.split(r"[\s;]+", words)]
        except ValueError:
            return self._together(name, words)
        if len(numbers) != self.size:
            raise ValueError(
                f"{name} must be {self.size} numbers, {' '.join(self.names)}, got {len(numbers)}: {text.strip()!r}"
            )
        return self._in_range(name, torch.tensor(numbers))

    def _together(self, name: str, words: str) -> Tensor:
        total = torch.zeros(self.size)
        for word in words.split("+"):
            if word.strip() not in self.presets:
                hint = nearest_hint(word.strip(), tuple(self.presets))
                raise ValueError(f"{name} must be {self.choices}, got {word.strip()!r}{hint}")
            total = total + torch.tensor(self.presets[word.strip()])
        return total.clamp(torch.tensor(self.low), torch.tensor(self.high))

    def _in_range(self, name: str, action: Tensor) -> Tensor:
        """Actions ``[..., size]`` that are known to fit.

        Raises:
            ValueError: If they do not; names the control.
        """
        if action.shape[-1:] != (self.size,):
            raise ValueError(f"{name} must be {self._expected}, got one of shape {list(action.shape)}")
        for control, low, high, given in zip(self.names, self.low, self.high, action.unbind(-1), strict=True):
            outside = given[~((given >= low) & (given <= high))]  # what is no number among them
            if len(outside.flatten()):
                wrong = float(outside.flatten()[0])
                raise ValueError(f"{control} of {name} must be from {low:g} to {high:g}, got {wrong:g}")
        return action

    @property
    def _expected(self) -> str:
        return f"an array [{self.size}] or [frames, {self.size}], or a text such as {next(iter(self.presets), 'none')}"

    def _read(self, name: str, values: Sequence[Any], read: ReadSignal | None) -> Action:
        del read
        found = [
            self.action(name, value) if isinstance(value, str) else self._in_range(name, as_tensor(name, value))
            for value in values
        ]
        if len({tuple(tensor.shape) for tensor in found}) > 1:
            raise ValueError(f"{name} of all items must have one length, got {[list(t.shape) for t in found]}")
        return Action(torch.stack(found))

    def agrees(self, other: ConditionField) -> bool:
        """Whether the controls are the same; names of presets are for people."""
        if not isinstance(other, ActionField):
            return False
        return (self.names, self.low, self.high) == (other.names, other.low, other.high)


def find_actions(fields: Mapping[str, Any], model: str) -> tuple[str, ActionField]:
    """The field of a model that takes what a player does, and its name.

    Args:
        fields: The model's fields.
        model: What it is called, for the message.

    Raises:
        ValueError: If there is none.
    """
    found = [(name, spec) for name, spec in fields.items() if isinstance(spec, ActionField)]
    if not found:
        raise ValueError(f"{model} takes no actions; it takes {', '.join(fields) or 'no condition'}")
    return found[0]
