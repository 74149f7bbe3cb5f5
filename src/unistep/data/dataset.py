"""The contract of a data set: items by index, with what is known of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from unistep.core.condition import AnyField, Condition, LabelField
from unistep.data.summary import Summary

if TYPE_CHECKING:
    from unistep.core.condition import Value
    from unistep.modalities.base import Modality

Indices = Sequence[int] | np.ndarray
"""Numbers of items."""
Seeds = Sequence[int]
"""A seed for each item of a batch; see :meth:`Dataset.batch`."""


class Dataset(ABC):
    """Signals of one modality by index, each with its conditions.

    A data set of your own extends this class with the four abstract members and :meth:`__len__`; everything else
    follows from them. :meth:`batch` must be safe to call from several threads.
    """

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """What kind of signals these are, and of which shape."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, AnyField]:
        """The conditions of every item by name."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all items: the same wherever and however the same data was prepared."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        """Some items.

        Args:
            indices: Which ones, ``b`` of them.
            seeds: A seed for each of them: where a window begins and how an item is augmented depend on nothing else.
                Without seeds, as in evaluation, an item is always the same.

        Returns:
            Stored signals, ``[b, *shape]``, which ``modality.to_signal`` takes, and their conditions. Where the network
            is given how items are augmented, that is one of them, zeros without seeds.
        """

    def conditions(self, indices: Indices, seeds: Seeds | None = None) -> Condition:
        """The conditions of some items; what can give them without their signals does so."""
        return self.batch(indices, seeds)[1]

    @property
    def varies(self) -> bool:
        """Whether items depend on their seeds; a data set that knows that they do not says so."""
        return True

    @property
    def source(self) -> str:
        """Where the data is from, as a person writes it."""
        return type(self).__name__

    @property
    def licence(self) -> str:
        """The licence of the data and its owner, where they are known."""
        return ""

    @property
    def summary(self) -> Summary:
        """How many items there are, and what became of each file."""
        noun, each = self.modality.noun, self.modality.described
        return Summary(source=self.source, good=len(self), noun=noun, each=each)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item, channels first."""
        return self.modality.shape

    @property
    def values(self) -> Any:
        """All stored signals, ``[n, *shape]``, which are read when they are indexed."""
        return StoredValues(self)

    @property
    def condition(self) -> Mapping[str, np.ndarray]:
        """What is known of every item by name, ``[n]``, of fields with one number for each item."""
        whole = self.batch(range(len(self)))[1]
        return {name: next(iter(whole[name].arrays().values())) for name in _numeric(self.fields)}

    @property
    def labels(self) -> np.ndarray | None:
        """Classes, int64 ``[n]``, negative for none; ``None`` where no item has one."""
        return self.condition.get("label")

    @property
    def kinds(self) -> np.ndarray | None:
        """The kind of each item, int64 ``[n]``, negative for one that stands alone; its class where nothing else is
        known, ``None`` without classes.
        """
        return self.labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """A name for each class; empty without labels."""
        spec = self.fields.get("label")
        return spec.names if isinstance(spec, LabelField) else ()

    @staticmethod
    def from_tensors(
        x: Tensor,
        *,
        modality: Modality | None = None,
        fields: Mapping[str, AnyField] | None = None,
        augment: Sequence[str] = (),
        source: str = "tensors",
        **conditions: Tensor | Value,
    ) -> Dataset:
        """A data set of tensors in memory.

        Args:
            x: Signals in [-1, 1], ``[n, *shape]``, or what the modality stores, such as uint8 pixels.
            modality: What they are; by default found from their shape and type.
            fields: What the conditions can be; by default found from their values.
            augment: Random changes of each item in training, of those that the modality has.
            source: A name for messages.
            **conditions: What is known of each item: whole numbers ``[n]`` for a class, other numbers ``[n]``, or
                typed values such as ``Tokens``.

        Raises:
            ValueError: If lengths differ, or the modality cannot be found.
        """
        from unistep.data.tensors import TensorDataset

        return TensorDataset(x, modality=modality, fields=fields, augment=augment, source=source, conditions=conditions)


class StoredValues:
    """The stored signals of a data set as an array that is read in parts.

    Args:
        dataset: The data set.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of items, then the shape of one."""
        return (len(self._dataset), *self._dataset.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self[:1].dtype

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Items by number, slice, array of numbers, or a mask; further indices apply to the items' own axes."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
        places = np.arange(len(self))[np.asarray(first) if isinstance(first, list | Tensor) else first]
        stored = self._dataset.batch(np.atleast_1d(places))[0].numpy()
        items = stored if np.ndim(places) else stored[0]
        if not rest:
            return items
        return items[(slice(None), *rest)] if np.ndim(places) else items[rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return np.asarray(self[:], dtype=dtype)


def _numeric(fields: Mapping[str, AnyField]) -> list[str]:
    return [name for name, spec in fields.items() if spec.kind in ("label", "scalar")]
