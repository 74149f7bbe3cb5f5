"""A data set in memory-mapped form, as the cache holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from unistep.core.condition import AnyField, Condition, LabelField, Value
from unistep.data.augmenting import Augmenter
from unistep.data.cache import VALUES, Cached
from unistep.data.dataset import Dataset, Indices, Seeds, StoredValues
from unistep.data.fingerprints import fields_of
from unistep.data.labels import KINDS
from unistep.data.summary import Summary, from_stored
from unistep.data.windows import WINDOW, Windows
from unistep.modalities.base import Modality


@final
class PreparedDataset(Dataset):
    """What :func:`unistep.data.prepare` returns: read-only memory maps.

    Args:
        cached: An opened folder of the cache.
        modality: What the items are.
        source: The source as a person writes it, with its split.
        path: The folder.
        augment: Random changes of each item in training.
    """

    def __init__(
        self, cached: Cached, *, modality: Modality, source: str, path: Path, augment: tuple[str, ...] = ()
    ) -> None:
        description = cached.description
        self.path = path
        """The folder of the cache."""
        self._modality, self._source, self._augment = modality, source, Augmenter.of(modality, augment)
        self._fingerprint: str = description["fingerprint"]
        self._licence: str = description["licence"]
        self._summary = from_stored(description["summary"], path)
        self._fields = _fields(description)
        self._kinds = np.array(description[KINDS], np.int64) if KINDS in description else None
        self._all_fields = self._augment.fields(self._fields)
        self._stored = cached.arrays[VALUES]
        self._windows = None if WINDOW not in description else Windows.read(cached.arrays, description[WINDOW])
        self._columns = {
            name: {key.removeprefix(f"{name}."): a for key, a in cached.arrays.items() if key.startswith(f"{name}.")}
            for name in self._fields
        }
        # Small columns are copied: an index into a memory map costs more than one into memory.
        for columns in self._columns.values():
            columns.update({key: np.array(array) for key, array in columns.items() if array.size == len(array)})

    @property
    def modality(self) -> Modality:
        """What the items are."""
        return self._modality

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """What is known of each."""
        return self._all_fields

    @property
    def fingerprint(self) -> str:
        """SHA-256 of values, conditions and names: the same wherever and however the same data was prepared."""
        return self._fingerprint

    @property
    def source(self) -> str:
        """The source as a person writes it, with its split."""
        return self._source

    @property
    def licence(self) -> str:
        """The licence of the data and its owner, where the source knows them."""
        return self._licence

    @property
    def summary(self) -> Summary:
        """What became of the source's files."""
        return self._summary

    @property
    def values(self) -> Any:
        """The stored items, a memory map ``[n, *shape]``; of recordings their windows on the fixed grid."""
        return self._stored if self._windows is None else StoredValues(self)

    @property
    def condition(self) -> Mapping[str, np.ndarray]:
        """What is known of every item by name, ``[n]``, of fields with one number for each item."""
        numeric = [name for name, spec in self._fields.items() if spec.kind in ("label", "scalar")]
        return {name: next(iter(self._columns[name].values())) for name in numeric}

    @property
    def kinds(self) -> np.ndarray | None:
        """What each item is a variant of, where its source knows; else its class."""
        return self.labels if self._kinds is None else self._kinds

    def __len__(self) -> int:
        return len(self._stored) if self._windows is None else len(self._windows)

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        rows = np.asarray(indices, dtype=np.int64)
        if self._windows is None:
            stored = torch.from_numpy(self._stored[rows])
        else:
            stored = torch.from_numpy(self._windows.cut(self._stored, rows, seeds))
        return self._augment.batch(stored, self.conditions(rows, seeds), seeds)

    @property
    def varies(self) -> bool:
        """Windows and augmented items do."""
        return self._windows is not None or bool(self._augment)

    def conditions(self, indices: Indices, seeds: Seeds | None = None) -> dict[str, Value]:
        """The conditions of some items."""
        rows = np.asarray(indices, dtype=np.int64)
        known = {name: spec.from_columns(self._columns[name], rows, seeds) for name, spec in self._fields.items()}
        return self._augment.condition(known, len(rows), seeds)


def _fields(description: Mapping[str, Any]) -> dict[str, AnyField]:
    names = description["label_names"]
    label: dict[str, AnyField] = {"label": LabelField(size=len(names), names=tuple(names))} if names else {}
    return {**label, **fields_of(description["fields"])}
