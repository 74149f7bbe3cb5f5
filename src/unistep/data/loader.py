"""Which items each training step sees: a pure function of seed and step, whatever happened before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import overload

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from unistep.core.condition import Condition
from unistep.core.seeding import derived_seed
from unistep.data.dataset import Dataset

Batch = tuple[Shaped[Tensor, "b ..."], Condition]
"""Stored signals, and what is known of each."""


class ItemSeeds(Sequence[int]):
    """The seed of each item of a batch, computed when it is used.

    Args:
        seed: Seed of the run.
        places: Positions of the items in the order of the loader, which has no end.
    """

    def __init__(self, seed: int, places: np.ndarray) -> None:
        self._seed, self._places = seed, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> ItemSeeds: ...
    def __getitem__(self, index: int | slice) -> int | ItemSeeds:
        if isinstance(index, slice):
            return ItemSeeds(self._seed, self._places[index])
        return derived_seed(self._seed, "item", int(self._places[index]))


class Loader:
    r"""Batches from random permutations of the data set, one per epoch, laid end to end.

    Step :math:`k` uses positions :math:`kB` to :math:`(k+1)B - 1` of that sequence. Every item therefore occurs once
    per epoch, a run that is resumed at any step continues exactly, and several processes with a slice each see together
    what one process would. A batch may span epochs, and be larger than the data set. Each position has its own seed,
    which chooses window and augmentation.

    Args:
        dataset: Signals and what is known of them.
        batch_size: Items a step over all processes, :math:`B`.
        seed: Chooses the permutations.
        rank: Number of this process.
        world: Number of processes.
        prefetch: Batches that are made ahead, each by a thread, while a step computes; 0 makes none.

    Raises:
        ValueError: If the data set is empty, or the batch cannot be shared equally.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, seed: int, rank: int = 0, world: int = 1, *, prefetch: int = 2
    ) -> None:
        if len(dataset) == 0:
            raise ValueError(f"{dataset.source} has no {dataset.modality.noun}s to load")
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be from 0 to {world - 1}, got {rank}")
        if batch_size % world:
            near = max(world, round(batch_size / world) * world)
            raise ValueError(f"batch size {batch_size} cannot be shared by {world} processes; nearest is {near}")
        if prefetch < 0:
            raise ValueError(f"prefetch must not be negative, got {prefetch}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.prefetch = prefetch
        self._share = batch_size // world
        self._offset = rank * self._share
        self._orders: dict[int, np.ndarray] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        """This process's share of a step's batch, made now.

        Args:
            step: Number of the step, from 0.

        Returns:
            Stored signals, ``[batch_size / world, *shape]``, and what is known of each by name.
        """
        return self._read(self.indices(step), self._places(step))

    def fetch(self, step: int) -> Batch:
        """The same as :meth:`batch`, while threads make the batches of the next steps ahead."""
        if self.prefetch == 0:
            return self.batch(step)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.prefetch, thread_name_prefix="unistep-loader")
        wanted = range(step, step + self.prefetch + 1)
        self._ahead = {k: future for k, future in self._ahead.items() if k in wanted}
        for k in wanted:
            if k not in self._ahead:
                # The order is looked up here, in one thread; only reading is done ahead.
                self._ahead[k] = self._pool.submit(self._read, self.indices(k), self._places(k))
        return self._ahead.pop(step).result()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of all steps from ``start`` on, without end, made ahead."""
        step = start
        while True:
            yield self.fetch(step)
            step += 1

    def close(self) -> None:
        """End the threads; a later :meth:`fetch` starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._ahead = None, {}

    def indices(self, step: int) -> np.ndarray:
        """Indices of this process's share of a step's batch, int64 of shape ``[batch_size / world]``."""
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        epochs, within = np.divmod(self._places(step), len(self.dataset))
        parts = []
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            parts.append(self._order(epoch)[within[epochs == epoch]])
        return np.concatenate(parts)

    def epoch(self, step: int) -> float:
        """How often the data set was seen when ``step`` begins."""
        return step * self.batch_size / len(self.dataset)

    def _read(self, indices: np.ndarray, places: np.ndarray) -> Batch:
        return self.dataset.batch(indices, ItemSeeds(self.seed, places))

    def _places(self, step: int) -> np.ndarray:
        start = step * self.batch_size + self._offset
        return np.arange(start, start + self._share)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) <= 1}
            # Not from a running generator: the order of epoch 90 must not need those of 0 to 89.
            source = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            self._orders[epoch] = source.permutation(len(self.dataset))
        return self._orders[epoch]
