"""A data set whose items are drawn so that rare kinds are seen as often as common ones."""

from __future__ import annotations

from typing import final

import numpy as np
from torch import Tensor

from unistep.core.condition import Condition
from unistep.core.seeding import derived_seed
from unistep.data.dataset import Dataset, Indices, Seeds
from unistep.data.layered import LayeredDataset

_DIGITS = 2**53  # whole numbers up to here are floats exactly


@final
class BalancedDataset(LayeredDataset):
    r"""The items of a data set, of which training draws those of rare kinds more often than there are of them.

    With :math:`n_k` items of kind :math:`k`, an item of it is drawn with a probability in proportion to

    .. math:: n_k^{-\beta}

    so that :math:`\beta = 0` draws every item equally often and :math:`\beta = 1` every kind. Draws are independent,
    each by its item's seed; without seeds, as in evaluation, items are where they were.

    Args:
        data: The items.
        kinds: The kind of each, a whole number; one that is negative is a kind by itself.
        balance: The exponent :math:`\beta`, from 0 to 1.

    Raises:
        ValueError: If the exponent is out of range, or there is not one kind for each item.
    """

    def __init__(self, data: Dataset, kinds: np.ndarray, balance: float) -> None:
        super().__init__(data)
        if not 0 <= balance <= 1:
            raise ValueError(f"balance must be from 0 (as often as there are items) to 1 (every kind), got {balance}")
        if len(kinds) != len(data):
            raise ValueError(f"{data.source} has {len(data)} items and {len(kinds)} kinds; each item needs one")
        _, kind, count = np.unique(kinds, return_inverse=True, return_counts=True)
        weight = np.where(kinds < 0, 1.0, count[kind].astype(float) ** -balance)
        self._below = np.cumsum(weight) / weight.sum()

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        """Some items: with seeds those that are drawn by them, without seeds those of the indices."""
        return self._data.batch(indices if seeds is None else self.drawn(seeds), seeds)

    def drawn(self, seeds: Seeds) -> np.ndarray:
        """The item that each seed draws, int64 of the same length."""
        share = np.array([derived_seed("balanced", int(seed)) % _DIGITS for seed in seeds]) / _DIGITS
        return np.searchsorted(self._below, share, side="right").clip(max=len(self._below) - 1)


def balanced(items: Dataset, described: Dataset, balance: float) -> Dataset:
    """Items drawn more evenly over their kinds, as far as ``balance`` says; themselves with 0.

    Args:
        items: What is drawn.
        described: The same items as their source describes them; latents know nothing of kinds.
        balance: The exponent, from 0 to 1.

    Raises:
        ValueError: If there is nothing to balance by.
    """
    if balance == 0:
        return items
    kinds = described.kinds
    if kinds is None:
        noun = described.modality.noun
        raise ValueError(
            f"balance {balance:g} draws classes evenly, and the {noun}s of {described.source} have none; put them into "
            "one folder for each class, or leave it out"
        )
    return BalancedDataset(items, kinds, balance)
