"""What a model can be told: named integer fields with a range, their defaults, and dropping them for guidance."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unistep.seeding import Randomness, uniform

Condition = Mapping[str, Tensor]
"""Named fields of a batch, each of shape ``[b]``; a negative value means "none"."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One named field of a condition: an integer in ``[0, size)``, with a name for each value where there are any."""

    size: int
    """Number of values."""
    names: tuple[str, ...] = ()
    """Names of the values, in order; empty where they have none."""

    def parse(self, name: str, value: int | str) -> int:
        """The number that ``value`` (a number or a name) stands for.

        Raises:
            ValueError: If it is neither in range nor a name of the field; says what is.
        """
        text = str(value).strip()
        lowered = [n.lower() for n in self.names]
        if text.lower() in lowered:
            return lowered.index(text.lower())
        try:
            number = int(text)
        except ValueError:
            near = difflib.get_close_matches(text.lower(), lowered, n=1)
            hint = f"; nearest is {self.names[lowered.index(near[0])]!r}" if near else ""
            choices = f" or one of {', '.join(self.names)}" if self.names else ""
            raise ValueError(f"{name} must be 0 to {self.size - 1}{choices}, got {text!r}{hint}") from None
        if not 0 <= number < self.size:
            choices = f" ({', '.join(f'{i} {n}' for i, n in enumerate(self.names))})" if self.names else ""
            raise ValueError(f"{name} must be 0 to {self.size - 1}{choices}, got {number}")
        return number


def parse_condition(
    fields: Mapping[str, Field], given: Mapping[str, int | str | Sequence[int | str] | None], count: int
) -> dict[str, Tensor]:
    """Turn named values into a batch of ``count``; one value serves all items, a sequence one each.

    Args:
        fields: The fields that the model declares.
        given: Values by field name; ``None`` leaves a field out.
        count: Number of items.

    Returns:
        Integer tensors of shape ``[count]`` for the fields that were given.

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
        values = [value] * count if isinstance(value, int | str) else list(value)
        if len(values) != count:
            raise ValueError(f"{name} has {len(values)} values for {count} samples; give one, or one for each")
        condition[name] = torch.tensor([fields[name].parse(name, v) for v in values], dtype=torch.long)
    return condition


def drop(condition: Condition, probability: float, generator: Randomness) -> dict[str, Tensor]:
    """Replace all fields of a random share of the items by "none", as classifier-free guidance needs in training.

    Args:
        condition: Fields of shape ``[b]``.
        probability: Share of items to drop.
        generator: Source of randomness.

    References:
        Ho & Salimans 2022, arXiv 2207.12598, algorithm 1.
    """
    if probability <= 0 or not condition:
        return dict(condition)
    first = next(iter(condition.values()))
    keep = uniform(len(first), generator).to(first.device) >= probability
    return {name: torch.where(keep, value, -1) for name, value in condition.items()}


def without(condition: Condition) -> dict[str, Tensor]:
    """The condition that says nothing, for as many items."""
    return {name: torch.full_like(value, -1) for name, value in condition.items()}
