"""Data sets in memory, and data sets made of others."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from unistep import registry
from unistep.core.condition import (
    AnyField,
    Condition,
    LabelField,
    ScalarField,
    SignalField,
    TokensField,
    Value,
    VectorField,
    as_condition,
    concat,
    select,
)
from unistep.data.augmenting import Augmenter
from unistep.data.dataset import Dataset, Indices, Seeds
from unistep.data.fingerprints import described_fields
from unistep.modalities.base import Modality


@final
class TensorDataset(Dataset):
    """Tensors in memory; :meth:`Dataset.from_tensors` says what the arguments are."""

    def __init__(
        self,
        x: Tensor,
        *,
        modality: Modality | None,
        fields: Mapping[str, AnyField] | None,
        augment: Sequence[str],
        source: str,
        conditions: Mapping[str, Tensor | Value],
    ) -> None:
        x = torch.as_tensor(x).detach().cpu()
        self._modality = modality or _modality_of(x)
        if tuple(x.shape[1:]) != self._modality.shape:
            shape = ", ".join(map(str, self._modality.shape))
            raise ValueError(f"{self._modality.noun}s must have shape [n, {shape}], got {list(x.shape)}")
        self._stored = self._modality.to_stored(x) if x.is_floating_point() else x
        self._condition = as_condition(conditions)
        for name, value in self._condition.items():
            if len(value) != len(x):
                raise ValueError(f"{name} has {len(value)} values for {len(x)} items; give one for each")
        self._fields = {**{name: _field_of(name, value) for name, value in self._condition.items()}, **(fields or {})}
        if self._fields.keys() != self._condition.keys():
            odd = next(iter(self._fields.keys() - self._condition.keys()))
            raise ValueError(f"the field {odd!r} has no values; give {odd}=... too")
        self._augment, self._source = Augmenter.of(self._modality, augment), source
        self._all_fields = self._augment.fields(self._fields)
        self._hash: str | None = None

    @property
    def modality(self) -> Modality:
        """What they are."""
        return self._modality

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """What the conditions can be."""
        return self._all_fields

    @property
    def source(self) -> str:
        """The name that was given."""
        return self._source

    @property
    def fingerprint(self) -> str:
        """SHA-256 of signals and conditions."""
        if self._hash is None:
            digest = hashlib.sha256(np.ascontiguousarray(self._stored.numpy()).tobytes())
            for value in self._condition.values():
                for array in value.arrays().values():
                    digest.update(np.ascontiguousarray(array).tobytes())
            meaning = [list(self._stored.shape), str(self._stored.dtype), described_fields(self._fields)]
            digest.update(json.dumps([*meaning, self._modality.meaning]).encode())
            self._hash = digest.hexdigest()
        return self._hash

    @property
    def varies(self) -> bool:
        """Augmented items do."""
        return bool(self._augment)

    def __len__(self) -> int:
        return len(self._stored)

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        condition = self._augment.condition(select(self._condition, rows), len(rows), seeds)
        return self._augment.batch(self._stored[rows], condition, seeds)


@final
class Subset(Dataset):
    """Some items of another data set, in an order of their own.

    Args:
        dataset: The other one.
        indices: Which of its items.
    """

    def __init__(self, dataset: Dataset, indices: Indices) -> None:
        self._dataset, self._indices = dataset, np.asarray(indices, dtype=np.int64)
        if len(self._indices) and not 0 <= self._indices.min() <= self._indices.max() < len(dataset):
            raise ValueError(f"indices of a subset must be from 0 to {len(dataset) - 1}")

    @property
    def modality(self) -> Modality:
        """That of the whole."""
        return self._dataset.modality

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """Those of the whole."""
        return self._dataset.fields

    @property
    def source(self) -> str:
        """That of the whole."""
        return self._dataset.source

    @property
    def licence(self) -> str:
        """That of the whole."""
        return self._dataset.licence

    @property
    def fingerprint(self) -> str:
        """A hash of the whole and of the indices."""
        return hashlib.sha256(self._dataset.fingerprint.encode() + self._indices.tobytes()).hexdigest()

    @property
    def varies(self) -> bool:
        """As those of the whole."""
        return self._dataset.varies

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        return self._dataset.batch(self._indices[np.asarray(indices, dtype=np.int64)], seeds)


@final
class Concatenation(Dataset):
    """Several data sets of one modality with the same conditions, one after the other.

    Args:
        datasets: At least one.

    Raises:
        ValueError: If they differ in modality or fields.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        if not datasets:
            raise ValueError("a concatenation needs at least one data set")
        first = datasets[0]
        for other in datasets[1:]:
            apart = first.modality.mismatch(other.modality)
            if apart is not None or dict(first.fields) != dict(other.fields):
                raise ValueError(f"{other.source} does not fit {first.source}: {apart or 'its conditions differ'}")
        self._datasets = tuple(datasets)
        self._ends = list(itertools.accumulate(len(dataset) for dataset in datasets))

    @property
    def modality(self) -> Modality:
        """That of all of them."""
        return self._datasets[0].modality

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """Those of all of them."""
        return self._datasets[0].fields

    @property
    def source(self) -> str:
        """The sources, joined."""
        return " + ".join(dataset.source for dataset in self._datasets)

    @property
    def licence(self) -> str:
        """The licences, joined."""
        return "; ".join(dict.fromkeys(dataset.licence for dataset in self._datasets if dataset.licence))

    @property
    def fingerprint(self) -> str:
        """A hash of theirs."""
        return hashlib.sha256("/".join(dataset.fingerprint for dataset in self._datasets).encode()).hexdigest()

    @property
    def varies(self) -> bool:
        """Whether those of one do."""
        return any(dataset.varies for dataset in self._datasets)

    def __len__(self) -> int:
        return self._ends[-1]

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        places = np.asarray(indices, dtype=np.int64)
        numbers = np.searchsorted(self._ends, places, side="right")
        order = np.argsort(numbers, kind="stable")
        stored, conditions = [], []
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            within = places[rows] - (self._ends[number - 1] if number else 0)
            found = self._datasets[number].batch(within, None if seeds is None else [seeds[int(row)] for row in rows])
            stored.append(found[0])
            conditions.append(found[1])
        back = torch.from_numpy(np.argsort(order))
        return torch.cat(stored)[back], select(concat(conditions), back)


def _modality_of(x: Tensor) -> Modality:
    """The first modality that recognises tensors of this shape and type, else plain tensors."""
    from unistep.modalities.tensor import TensorModality

    kinds: list[type[Modality]] = list(registry.entries("modality").values())
    recognised = (kind.of_tensors(tuple(x.shape[1:]), x.dtype) for kind in kinds)
    return next((found for found in recognised if found is not None), None) or TensorModality(shape=tuple(x.shape[1:]))


def _field_of(name: str, value: Value) -> AnyField:
    """The field that has all of these values."""
    array = next(iter(value.arrays().values()))
    if value.kind == "label":
        return LabelField(size=max(1, int(array.max(initial=0)) + 1))
    if value.kind == "scalar":
        finite = array[np.isfinite(array)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        return ScalarField(low=low, high=high if high > low else low + 1)
    shape = array.shape[1:]
    if value.kind == "vector":
        return VectorField(size=shape[0])
    if value.kind == "tokens":
        return TokensField(length=shape[0], dim=shape[1])
    return SignalField(shape=shape)
