"""A data set with a guidance weight for each item, for a model that takes one and goes on learning from data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from torch import Tensor

from unistep.core.condition import GUIDANCE, AnyField, Condition, ScalarField
from unistep.core.seeding import ItemGenerators, derived_seed
from unistep.data.dataset import Dataset, Indices, Seeds
from unistep.data.layered import LayeredDataset


@final
class WeightedDataset(LayeredDataset):
    """The items of a data set, each with a guidance weight drawn evenly from the range of a field by its seed.

    Data says nothing of guidance. A model that takes the weight as a condition learns new data at every weight, so that
    none asks for what it made before. Items that have one keep it, such as samples of a model in place of its data.

    Args:
        data: The items.
        weight: The field.
    """

    def __init__(self, data: Dataset, weight: ScalarField) -> None:
        super().__init__(data)
        self._weight = weight

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """Those of the items, and the weight."""
        return {**self._data.fields, GUIDANCE: self._weight}

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        """Some items; without seeds, with the weight that samples have by default."""
        stored, condition = self._data.batch(indices, seeds)
        if seeds is None:
            weights = self._weight.draw(len(stored), ItemGenerators([0] * len(stored)))
        else:
            generator = ItemGenerators([derived_seed(GUIDANCE, int(seed)) for seed in seeds])
            weights = replace(self._weight, default=None).draw(len(stored), generator)
        own = condition.get(GUIDANCE)
        if own is not None:
            weights = own.where(~own.tensors["value"].isnan(), weights)
        return stored, {**condition, GUIDANCE: weights}
