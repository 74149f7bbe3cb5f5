"""Typed values of conditions, each for a whole batch: classes, numbers, vectors, sequences of tokens, signals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils import _pytree as pytree

Rows = slice | Tensor | Sequence[int]
"""Which items of a batch: a slice, a mask or indices."""


def _flattened_with_keys(value: Value) -> tuple[list[tuple[Any, Any]], Any]:
    return [(pytree.GetAttrKey(name), tensor) for name, tensor in value.tensors.items()], None


class Value(ABC):
    """The value of one condition for each item of a batch: a frozen dataclass of tensors, batch first.

    Some items may have none (the null condition, as classifier-free guidance needs). How that is encoded is known to
    the class and to the network's embedding of it alone. A class of your own extends this one and is a frozen dataclass
    whose fields are all tensors; it is a pytree node, so that ``torch.func``, ``torch.export`` and FSDP find them.
    """

    kind: ClassVar[str]
    """What the values are, such as ``label``."""
    guided: ClassVar[bool] = True
    """Whether guidance strengthens it; what it does not is never dropped, and the unconditional branch has it too."""
    varying: ClassVar[Mapping[str, Mapping[int, str]]] = {}
    """Axes besides the first whose length differs between batches: their numbers and names, by the tensor's name."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        pytree.register_pytree_node(
            cls,
            lambda value: ([getattr(value, name) for name in _names(cls)], None),
            lambda tensors, _: cls(*tensors),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
            flatten_with_keys_fn=_flattened_with_keys,
        )

    @abstractmethod
    def null(self) -> Self:
        """The null condition for as many items."""

    @abstractmethod
    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items have a condition."""

    @abstractmethod
    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs of items have the same condition."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {name: getattr(self, name) for name in _names(type(self))}

    @property
    def form(self) -> tuple[Any, ...]:
        """What two batches agree in that one exported network takes: the class, and all sizes but those that vary."""
        shapes = [
            tuple(size for axis, size in enumerate(tensor.shape) if axis and axis not in self.varying.get(name, ()))
            for name, tensor in self.tensors.items()
        ]
        return (type(self), *shapes)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors.values())).device

    def __len__(self) -> int:
        """Number of items."""
        return len(next(iter(self.tensors.values())))

    def check(self, name: str, spec: Any) -> None:
        """Refuse values that a field does not have; what a network looks at itself needs no check.

        Args:
            name: Name of the field, for messages.
            spec: The field.

        Raises:
            ValueError: If it does not have them.
        """
        del name, spec

    @property
    def frames(self) -> int | None:
        """How many frames of clips they are known for; ``None`` for those that hold for any."""
        return None

    def frame(self, number: int) -> Self:
        """The values for one frame of clips; those that hold for the whole of a clip are the same for each.

        Args:
            number: Which frame; negative numbers count from the end.

        Raises:
            IndexError: If they are not known for such a frame.
        """
        del number
        return self

    def first_frames(self, count: int) -> Self:
        """The values for the first frames of clips; those that hold for any number are as they are."""
        del count
        return self

    def where(self, keep: Bool[Tensor, " b"], other: Self) -> Self:
        """These values where ``keep`` is true, those of ``other`` elsewhere."""
        mine, theirs = self._aligned([self, other])
        chosen = {}
        for name, value in mine.tensors.items():
            wide = keep.view(-1, *[1] * (value.ndim - 1))
            chosen[name] = torch.where(wide, value, theirs.tensors[name])
        return replace(self, **chosen)  # pyright: ignore[reportArgumentType]

    def select(self, rows: Rows) -> Self:
        """The items ``rows``."""
        index = rows if isinstance(rows, slice | Tensor) else torch.as_tensor(rows, dtype=torch.long)
        return self._map(lambda tensor: tensor[index])

    @classmethod
    def concat(cls, values: Sequence[Self]) -> Self:
        """The items of several batches, one batch after the other."""
        aligned = cls._aligned(values)
        return cls(**{name: torch.cat([value.tensors[name] for value in aligned]) for name in _names(cls)})

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The values on a device."""
        if all(tensor.device == torch.device(device) for tensor in self.tensors.values()):
            return self
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def encoded(self, encode: Callable[[Tensor], Tensor]) -> Self:
        """The values with signals ``[b, *shape]`` replaced by what a codec makes of them; most hold none."""
        del encode
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors as arrays by name, to be stored in columns of ``.npy`` files; batch first."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.tensors.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of :meth:`arrays`."""
        return cls(**{name: torch.from_numpy(np.require(arrays[name], requirements="W")) for name in _names(cls)})

    @classmethod
    def _aligned(cls, values: Sequence[Any]) -> Sequence[Any]:
        """The values with tensors that differ in the batch size alone."""
        return values

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: function(tensor) for name, tensor in self.tensors.items()})  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, eq=False)
class Label(Value):
    """A class for each item; a negative number is the null condition."""

    kind: ClassVar[str] = "label"

    index: Int[Tensor, " b"]
    """Classes, numbered from 0."""

    def null(self) -> Label:
        """No class for as many items."""
        return Label(torch.full_like(self.index, -1))

    def check(self, name: str, spec: Any) -> None:
        """Classes must be those that the field counts."""
        size, largest = getattr(spec, "size", math.inf), int(self.index.max()) if len(self) else -1
        if largest >= size:
            raise ValueError(f"{name} must be classes numbered from 0 to {size - 1}, negative for none, got {largest}")

    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items have a class."""
        return self.index >= 0

    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs have the same class, or both none."""
        index = self.index.clamp(min=-1)
        return index[:, None] == index[None, :]


@dataclass(frozen=True, eq=False)
class Scalar(Value):
    """A real number for each item, such as a guidance weight; NaN is the null condition."""

    kind: ClassVar[str] = "scalar"

    value: Float[Tensor, " b"]
    """The numbers."""

    def null(self) -> Scalar:
        """No number for as many items."""
        return Scalar(torch.full_like(self.value, math.nan))

    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items have a number."""
        return ~self.value.isnan()

    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs have the same number, or both none."""
        none = self.value.isnan()
        return (self.value[:, None] == self.value[None, :]) | (none[:, None] & none[None, :])


@dataclass(frozen=True, eq=False)
class Vector(Value):
    """A vector for each item that says how it was made, such as how it was augmented; zeros are an item as it is.

    It is nothing that guidance could strengthen: without it a network would take augmented items for the data.
    """

    kind: ClassVar[str] = "vector"
    guided: ClassVar[bool] = False

    vector: Float[Tensor, "b d"]
    """The vectors."""

    def null(self) -> Vector:
        """Zeros for as many items."""
        return Vector(torch.zeros_like(self.vector))

    def check(self, name: str, spec: Any) -> None:
        """Vectors must have the field's size."""
        _check_size(self.vector, name, spec)

    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items are not as they are."""
        return self.vector.any(dim=1)

    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs have the same vector."""
        return _same_rows(self.vector)


@dataclass(frozen=True, eq=False)
class Action(Value):
    """What a player does, for each item, or for each frame of it; zeros, doing nothing, are the null condition."""

    kind: ClassVar[str] = "vector"

    vector: Float[Tensor, "b *frames d"]
    """A number for each control, of the one frame that is to come or of each frame of a clip."""

    def null(self) -> Action:
        """Doing nothing, for as many items."""
        return Action(torch.zeros_like(self.vector))

    def check(self, name: str, spec: Any) -> None:
        """Vectors must have the field's size."""
        _check_size(self.vector, name, spec)

    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items have something done."""
        return self.vector.flatten(1).any(dim=1)

    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs have the same actions."""
        return _same_rows(self.vector)

    @property
    def frames(self) -> int | None:
        """Frames of the clips, where there is an action for each."""
        return self.vector.shape[1] if self.vector.ndim > 2 else None

    def frame(self, number: int) -> Action:
        """Those of one frame of clips; negative numbers count from the end."""
        return Action(self.vector[:, number]) if self.vector.ndim > 2 else self

    def first_frames(self, count: int) -> Action:
        """Those of the first frames of clips."""
        return Action(self.vector[:, :count]) if self.vector.ndim > 2 else self

    @classmethod
    def _aligned(cls, values: Sequence[Any]) -> Sequence[Any]:
        """What is done in one frame is done in each frame of a clip beside others that have an action for each."""
        frames = next((value.frames for value in values if value.frames is not None), None)
        if frames is None:
            return values
        return [
            value if value.frames is not None else cls(value.vector[:, None].repeat(1, frames, 1)) for value in values
        ]


@dataclass(frozen=True, eq=False)
class Tokens(Value):
    """A sequence of vectors for each item, such as an encoded text; an empty sequence is the null condition."""

    kind: ClassVar[str] = "tokens"
    varying: ClassVar[Mapping[str, Mapping[int, str]]] = {"tokens": {1: "length"}, "mask": {1: "length"}}

    tokens: Float[Tensor, "b n d"]
    """The vectors, padded to one length."""
    mask: Bool[Tensor, "b n"]
    """Which of them are part of the sequence."""

    @classmethod
    def whole(cls, tokens: Float[Tensor, "b n d"]) -> Tokens:
        """Sequences of one length, all of whose vectors count."""
        return cls(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def null(self) -> Tokens:
        """Empty sequences for as many items."""
        return Tokens(torch.zeros_like(self.tokens), torch.zeros_like(self.mask))

    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items have a sequence."""
        return self.mask.any(dim=1)

    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs have the same sequence."""
        return _same_rows(torch.where(self.mask[..., None], self.tokens, 0), self.mask)

    @classmethod
    def _aligned(cls, values: Sequence[Any]) -> Sequence[Any]:
        longest = max(value.mask.shape[1] for value in values)
        return [value._padded(longest - value.mask.shape[1]) for value in values]

    def _padded(self, count: int) -> Self:
        """The sequences with ``count`` more vectors that do not count."""
        if count == 0:
            return self
        return replace(self, tokens=F.pad(self.tokens, (0, 0, 0, count)), mask=F.pad(self.mask, (0, count)))


@dataclass(frozen=True, eq=False)
class Signal(Value):
    """A reference signal for each item, such as a grey image to colour, or the previous frames.

    The signal may carry noise whose level is known; a level of NaN, with a signal of zeros, is the null condition.
    """

    kind: ClassVar[str] = "signal"

    signal: Float[Tensor, "b *shape"]
    """The signals."""
    level: Float[Tensor, " b"]
    """Noise level of each, 0 for a clean one."""

    @classmethod
    def clean(cls, signal: Float[Tensor, "b *shape"]) -> Signal:
        """Signals without noise."""
        return cls(signal, signal.new_zeros(len(signal)))

    def null(self) -> Signal:
        """No signal for as many items."""
        return Signal(torch.zeros_like(self.signal), torch.full_like(self.level, math.nan))

    def has_condition(self) -> Bool[Tensor, " b"]:
        """Which items have a signal."""
        return ~self.level.isnan()

    def matches(self) -> Bool[Tensor, "b b"]:
        """Which pairs have the same signal under the same noise level."""
        has = self.has_condition()
        return _same_rows(torch.where(has, self.level, -1), torch.where(has[:, None], self.signal.flatten(1), 0))

    def encoded(self, encode: Callable[[Tensor], Tensor]) -> Signal:
        """The signals as a codec encodes them; the null condition stays zeros."""
        has = self.has_condition()
        signal = encode(self.signal)
        return Signal(torch.where(has.view(-1, *[1] * (signal.ndim - 1)), signal, 0), self.level)


def _names(cls: type[Value]) -> list[str]:
    return [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType]


def _check_size(vector: Tensor, name: str, spec: Any) -> None:
    size = getattr(spec, "size", vector.shape[-1])
    if vector.shape[-1] != size:
        numbers = "number" if size == 1 else "numbers"
        raise ValueError(f"{name} must be vectors of {size} {numbers}, got a tensor of shape {list(vector.shape)}")


def _same_rows(*parts: Tensor) -> Bool[Tensor, "b b"]:
    """Which pairs of items are equal in every part ``[b, ...]``."""
    together = torch.cat([part.reshape(len(part), -1).double() for part in parts], 1)
    ids = torch.unique(together, dim=0, return_inverse=True)[1]
    return ids[:, None] == ids[None, :]
