"""Random changes of items in training, each from nothing but the item's seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from unistep.core.condition import AUGMENTATION, AnyField, Condition, Value, Vector, VectorField, encoded
from unistep.core.seeding import derived_seed
from unistep.data.dataset import Seeds
from unistep.modalities.augmentation import ConditionalAugmentation
from unistep.modalities.base import Modality
from unistep.spelling import nearest


@dataclass(frozen=True)
class Augmenter:
    """What is done to items in training, in order: first what changes the data, then what is a condition."""

    changes: tuple[Callable[..., Any], ...] = ()
    """Functions of one stored item and of a generator."""
    conditional: tuple[ConditionalAugmentation, ...] = ()
    """Changes that a vector describes."""

    @classmethod
    def of(cls, modality: type[Modality] | Modality, names: Sequence[str]) -> Self:
        """The changes of a modality by their names, such as ``flip``, ``edm`` or, with a probability, ``edm:0.2``.

        Raises:
            ValueError: Naming the first one that it has not, and all that it has.
        """
        known: dict[str, Any] = {**modality.augmentations, **modality.conditional_augmentations}
        found = []
        for name in names:
            word, colon, text = name.partition(":")
            if word not in known:
                hint = nearest(word, known) if known else "there are none"
                raise ValueError(f"{modality.noun}s have no augmentation {name!r}; {hint}")
            change = known[word]
            found.append(_with_probability(name, change, text) if colon else change)
        conditional = tuple(change for change in found if isinstance(change, ConditionalAugmentation))
        return cls(tuple(change for change in found if not isinstance(change, ConditionalAugmentation)), conditional)

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return bool(self.changes or self.conditional)

    @cached_property
    def size(self) -> int:
        """Numbers of the vector that the network is given; 0 where it is given none."""
        return sum(change.size for change in self.conditional)

    def fields(self, known: Mapping[str, AnyField]) -> dict[str, AnyField]:
        """The fields of a data set with that of the augmentation, where the network is given one.

        Raises:
            ValueError: If the data has a field of that name, or one that would no longer be true.
        """
        fixed = [name for name, spec in known.items() if not spec.augmentable] if self else []
        if fixed:
            raise ValueError(
                f"items that have the condition {fixed[0]!r} cannot be augmented: of a mirrored one it would not be "
                "true; leave the augmentation out"
            )
        if not self.size:
            return dict(known)
        if AUGMENTATION in known:
            raise ValueError(f"this data has a field {AUGMENTATION!r}, the name of the augmentation's; rename it")
        return {**known, AUGMENTATION: VectorField(size=self.size)}

    def condition(self, known: Condition, count: int, seeds: Seeds | None) -> dict[str, Value]:
        """The condition of ``count`` items with how they are augmented; zeros without seeds.

        Args:
            known: What the data says of the items.
            count: Their number.
            seeds: A seed for each in training.
        """
        if not self.size:
            return dict(known)
        if seeds is None:
            return {**known, AUGMENTATION: Vector(torch.zeros(count, self.size))}
        rows = []
        for seed in seeds:
            # A generator of its own, so that the vector does not depend on the item or on other changes.
            generator = torch.Generator().manual_seed(derived_seed(AUGMENTATION, seed))
            rows.append(torch.cat([change.draw(generator) for change in self.conditional]))
        return {**known, AUGMENTATION: Vector(torch.stack(rows))}

    def batch(self, stored: Tensor, condition: Condition, seeds: Seeds | None) -> tuple[Tensor, Condition]:
        """Stored items and their conditions, whose reference signals change as the items do.

        Args:
            stored: Items, ``[b, *shape]``.
            condition: That of :meth:`condition`.
            seeds: A seed for each; without, the items stay as they are.
        """
        if seeds is None or not self:
            return stored, condition
        vectors = condition[AUGMENTATION].tensors["vector"] if self.size else torch.zeros(len(stored), 0)

        def changed(items: Tensor) -> Tensor:
            return torch.stack([self._item(*each) for each in zip(items, seeds, vectors, strict=True)])

        return changed(stored), encoded(condition, changed)

    def _item(self, item: Tensor, seed: int, vector: Tensor) -> Tensor:
        if self.changes:
            generator = torch.Generator().manual_seed(seed)
            for change in self.changes:
                item = change(item, generator)
        for change, part in zip(
            self.conditional, vector.split([change.size for change in self.conditional]), strict=True
        ):
            item = change.apply(item, part)
        return item


def _with_probability(name: str, change: Any, text: str) -> ConditionalAugmentation:
    """An augmentation with the probability that its name has after the colon."""
    try:
        if isinstance(change, ConditionalAugmentation):
            return change.with_probability(float(text))
    except ValueError:
        raise ValueError(
            f"augmentation {name!r} must have a probability from 0 to 1 after the colon, such as "
            f"{name.partition(':')[0]}:0.12"
        ) from None
    raise ValueError(f"augmentation {name!r} takes no probability; leave out :{text}")
