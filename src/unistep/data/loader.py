"""Which pictures each training step sees: a pure function of seed and step, whatever came before."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from unistep.core.condition import Value, as_condition
from unistep.data.dataset import Dataset


class Loader:
    r"""Batches from random permutations of the data set, one per epoch, laid end to end.

    Step :math:`k` sees places :math:`kB` to :math:`(k+1)B - 1` of that endless row, so that every item is seen once
    an epoch, a run that is resumed at any step goes on exactly, and several processes that take a slice each see
    together what one process would. A batch may span epochs, and be larger than the data set.

    Args:
        dataset: Pictures or sounds.
        batch_size: Items a step over all processes, :math:`B`.
        seed: Chooses the permutations.
        rank: Number of this process.
        world: Number of processes.

    Raises:
        ValueError: If the data set is empty, or the batch cannot be shared equally.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if len(dataset) == 0:
            raise ValueError(f"{dataset.source} has no {dataset.summary.noun}s to load")
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be from 0 to {world - 1}, got {rank}")
        if batch_size % world:
            near = max(world, round(batch_size / world) * world)
            raise ValueError(f"batch size {batch_size} cannot be shared by {world} processes; nearest is {near}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self._share = batch_size // world
        self._offset = rank * self._share
        self._orders: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> tuple[Shaped[Tensor, "b ..."], dict[str, Value]]:
        """This process's share of a step's batch.

        Args:
            step: Number of the step, from 0.

        Returns:
            Pictures of shape ``[batch_size / world, c, h, w]``, uint8, or waveforms ``[batch_size / world, c,
            samples]``, int16, and what is known of each by name.
        """
        chosen = self.indices(step)
        values = torch.from_numpy(self.dataset.values[chosen])
        return values, as_condition(
            {name: torch.from_numpy(column[chosen]) for name, column in self.dataset.condition.items()}
        )

    def indices(self, step: int) -> np.ndarray:
        """Indices of this process's share of a step's batch, int64 of shape ``[batch_size / world]``."""
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        start = step * self.batch_size + self._offset
        places = np.arange(start, start + self._share)
        epochs, within = np.divmod(places, len(self.dataset))
        parts = []
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            parts.append(self._order(epoch)[within[epochs == epoch]])
        return np.concatenate(parts)

    def epoch(self, step: int) -> float:
        """How often the data set was seen when ``step`` begins."""
        return step * self.batch_size / len(self.dataset)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            # Not from a running generator: the order of epoch 90 must not need those of 0 to 89.
            source = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            self._orders[epoch] = source.permutation(len(self.dataset))
        return self._orders[epoch]
