"""A data set with a share of older data among its items, so that what was learned from that is not forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from unistep.core.condition import AnyField, Condition, concat, select
from unistep.core.seeding import derived_seed
from unistep.data.dataset import Dataset, Indices, Seeds
from unistep.modalities.base import Modality


@final
class RehearsingDataset(Dataset):
    """All items of one data set, and beside them so many draws from an older one that they have a given share.

    A draw is another item in each epoch, by its seed. What only one of the two has as a condition is null for the items
    of the other.

    Args:
        new: The data set.
        old: The older one, of the same kind and shape of signal.
        share: Share of the items that are old, between 0 and 1.
        known: Conditions of the old items that are kept.

    Raises:
        ValueError: If the share is out of range, or the signals differ.
    """

    def __init__(self, new: Dataset, old: Dataset, share: float, known: Mapping[str, AnyField]) -> None:
        if not 0 < share < 1:
            raise ValueError(f"the share of old items must be between 0 and 1, got {share}")
        if new.modality.mismatch(old.modality) is not None:
            raise ValueError(
                f"{new.source} has {new.modality.noun}s of {new.modality.described}, and {old.source}, which is to be "
                f"rehearsed, of {old.modality.described}; take the same, or no rehearsal"
            )
        self._new, self._old, self._kept = new, old, tuple(known)
        self._fields = {**known, **new.fields}
        self._draws = max(1, round(len(new) * share / (1 - share)))

    @property
    def modality(self) -> Modality:
        """That of both."""
        return self._new.modality

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """Those of the new items, and those of the old ones that are kept."""
        return self._fields

    @property
    def fingerprint(self) -> str:
        """That of the new data, which a run is about."""
        return self._new.fingerprint

    @property
    def source(self) -> str:
        """That of the new data."""
        return self._new.source

    @property
    def licence(self) -> str:
        """That of the new data."""
        return self._new.licence

    def __len__(self) -> int:
        """The new items and the draws."""
        return len(self._new) + self._draws

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        """Some items; those from ``len(new)`` on are draws from the old data."""
        new = [row for row, index in enumerate(indices) if index < len(self._new)]
        old = [row for row, index in enumerate(indices) if index >= len(self._new)]
        parts: list[tuple[Tensor, Condition]] = []
        if new:
            chosen = [int(indices[row]) for row in new]
            stored, condition = self._new.batch(chosen, None if seeds is None else [seeds[row] for row in new])
            parts.append((stored, self._completed(condition, len(new))))
        if old:
            chosen = [self._drawn(int(indices[row]), None if seeds is None else int(seeds[row])) for row in old]
            stored, condition = self._old.batch(chosen, None if seeds is None else [seeds[row] for row in old])
            kept = {name: value for name, value in condition.items() if name in self._kept}
            parts.append((stored, self._completed(kept, len(old))))
        back = torch.tensor([*new, *old]).argsort()
        return torch.cat([stored for stored, _ in parts])[back], select(concat([known for _, known in parts]), back)

    def _drawn(self, index: int, seed: int | None) -> int:
        """Which old item a draw is."""
        if seed is None:
            return (index - len(self._new)) * len(self._old) // self._draws
        return derived_seed("rehearsed", seed) % len(self._old)

    def _completed(self, condition: Condition, count: int) -> Condition:
        return {name: condition[name] if name in condition else spec.null(count) for name, spec in self._fields.items()}
