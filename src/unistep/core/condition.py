"""The condition of a batch, named typed values, and what guidance does to it: dropping, the null condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from unistep.core.action_fields import ActionField
from unistep.core.fields import ConditionField, ConditionValue, LabelField, ReadSignal, ScalarField, asked
from unistep.core.seeding import Randomness, uniform
from unistep.core.signal_fields import SignalField, TokensField
from unistep.core.text_fields import TextField
from unistep.core.values import Action, Label, Rows, Scalar, Signal, Tokens, Value, Vector
from unistep.core.vector_fields import VectorField

__all__ = [
    "AUGMENTATION",
    "CONDITIONS",
    "CONTEXT",
    "GUIDANCE",
    "Action",
    "ActionField",
    "AnyField",
    "Condition",
    "ConditionField",
    "ConditionLike",
    "ConditionValue",
    "Label",
    "LabelField",
    "Scalar",
    "ScalarField",
    "Signal",
    "SignalField",
    "TextField",
    "Tokens",
    "TokensField",
    "Value",
    "Vector",
    "VectorField",
    "as_condition",
    "as_it_is",
    "asked",
    "concat",
    "differing",
    "drop",
    "encoded",
    "frame",
    "labels",
    "matches",
    "null_condition",
    "parse_condition",
    "select",
    "to_device",
    "where",
]

Condition = Mapping[str, Value]
"""Named values of a batch, each for all of its items."""

ConditionLike = Mapping[str, Value | Tensor]
"""A condition as a person may give it, with plain tensors ``[b]`` for labels and scalars; see :func:`as_condition`."""

AnyField = ConditionField
"""What a model can declare under a name."""

CONTEXT = "context"
"""The previous chunk of a stream, a :class:`Signal`; see ``unistep.generation.history``."""

AUGMENTATION = "augmentation"
"""How an item was augmented, a :class:`Vector`; see ``unistep.data.augmenting``."""

CONDITIONS = ("label", "text", "instrument", "pitch", "velocity", "action")
"""The fields that models of known data take."""

GUIDANCE = "guidance"
"""The field of a guidance weight, which a network takes as a condition instead of being evaluated twice."""


def as_condition(given: ConditionLike | None) -> dict[str, Value]:
    """A condition whose plain tensors ``[b]`` are wrapped: whole numbers as :class:`Label`, others as :class:`Scalar`.

    Raises:
        ValueError: For a tensor of another shape, which does not say what it is.
    """
    return {name: value if isinstance(value, Value) else _wrapped(name, value) for name, value in (given or {}).items()}


def _wrapped(name: str, value: Any) -> Value:
    if not isinstance(value, Tensor) or value.ndim != 1:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must be a Label, Scalar, Tokens or Signal, or a tensor of shape [b], got {got}")
    return Scalar(value) if value.is_floating_point() else Label(value)


def parse_condition(
    fields: Mapping[str, AnyField], given: Mapping[str, Any], count: int, read: ReadSignal | None = None
) -> dict[str, Value]:
    """Turn named values into a batch of ``count``; one value serves all items, a sequence one each.

    Args:
        fields: The fields that the model declares.
        given: Values by field name, each one of :data:`ConditionValue` or several; ``None`` leaves a field out.
        count: Number of items.
        read: Reads files that hold a signal.

    Returns:
        Values of ``count`` items for the fields that were given.

    Raises:
        ValueError: For an unknown field, a value out of range, or a sequence of the wrong length.
    """
    condition: dict[str, Value] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in fields:
            known = ", ".join(sorted(asked(fields))) or "none: it is unconditional"
            raise ValueError(f"this model has no condition {name!r}; it takes {known}")
        condition[name] = fields[name].parse(name, value, count, read)
    return condition


def labels(condition: Condition) -> dict[str, Value]:
    """The values that guidance strengthens: all but the context and the augmentation, which are always given."""
    return {name: value for name, value in condition.items() if name != CONTEXT and value.guided}


def differing(condition: Condition) -> dict[str, Value]:
    """The values by which items of a batch are compared: all but the context, of which no two are the same."""
    return {name: value for name, value in condition.items() if name != CONTEXT}


def as_it_is(condition: Condition) -> dict[str, Value]:
    """The condition of items that are not augmented, for samples that are compared with those of the data."""
    return {name: value if value.guided or name == CONTEXT else value.null() for name, value in condition.items()}


def drop(condition: ConditionLike, probability: float, generator: Randomness) -> dict[str, Value]:
    """Replace the condition of a random share of the items by the null condition, as guidance needs in training.

    Args:
        condition: The condition of a batch; all its values that guidance strengthens are dropped together.
        probability: Share of items to drop.
        generator: Source of randomness.

    References:
        Ho & Salimans 2022, arXiv 2207.12598, algorithm 1.
    """
    condition = as_condition(condition)
    dropped = labels(condition)
    if probability <= 0 or not dropped:
        return condition
    first = next(iter(dropped.values()))
    keep = uniform(len(first), generator).to(first.device) >= probability
    return where(keep, condition, null_condition(condition))


def null_condition(condition: ConditionLike) -> dict[str, Value]:
    """The condition that says nothing, for as many items; what guidance does not strengthen stays."""
    condition = as_condition(condition)
    return {**condition, **{name: value.null() for name, value in labels(condition).items()}}


def where(keep: Bool[Tensor, " b"], condition: Condition, other: Condition) -> dict[str, Value]:
    """The items of ``condition`` where ``keep`` is true, those of ``other`` elsewhere."""
    return {name: value.where(keep, other[name]) for name, value in condition.items()}


def select(condition: Condition, rows: Rows) -> dict[str, Value]:
    """The items ``rows`` (a slice, a mask or indices) of a condition."""
    return {name: value.select(rows) for name, value in condition.items()}


def frame(condition: Condition, number: int) -> dict[str, Value]:
    """A condition for one frame of clips; negative numbers count from the end."""
    return {name: value.frame(number) for name, value in condition.items()}


def concat(conditions: Sequence[Condition]) -> dict[str, Value]:
    """The items of several conditions with the same names, one after the other."""
    return {name: type(value).concat([c[name] for c in conditions]) for name, value in conditions[0].items()}


def to_device(condition: Condition, device: torch.device | str, *, non_blocking: bool = False) -> dict[str, Value]:
    """A condition on a device."""
    return {name: value.to(device, non_blocking=non_blocking) for name, value in condition.items()}


def encoded(condition: Condition, encode: Callable[[Tensor], Tensor]) -> dict[str, Value]:
    """A condition with its reference signals as the network sees them; see :meth:`Codec.encode_reference`."""
    return {name: value.encoded(encode) for name, value in condition.items()}


def matches(condition: Condition, num: int, device: torch.device | str = "cpu") -> Bool[Tensor, "b b"]:
    """Which pairs of ``num`` items have the same condition, the context aside."""
    same = torch.ones(num, num, dtype=torch.bool, device=device)
    for value in differing(condition).values():
        same = same & value.matches().to(device)
    return same
