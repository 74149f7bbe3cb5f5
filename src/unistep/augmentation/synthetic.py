"""Synthetic items of classes: as many of each, samples from noise and variations of real ones, without near-copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unistep.augmentation.classes import ClassedData, Matched
from unistep.augmentation.memorisation import Memorisation
from unistep.core.seeding import derived_seed
from unistep.generation.generator import Generator

ROUNDS = 4
"""How often as many are drawn as are missing, where near-copies are dropped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Synthesis:
    """Synthetic items in the order of their classes."""

    x: Float[Tensor, "n *shape"]
    """The signals."""
    index: np.ndarray
    """The class of each, as the data numbers them, int64 ``[n]``."""
    seeds: np.ndarray
    """The seed of each."""
    origin: np.ndarray
    """The real item that each is a variation of; -1 for a sample from noise."""
    distance: np.ndarray
    """Distance of each to the nearest training item of its class; NaN where nobody measured."""
    near: np.ndarray
    """Which item that is; -1 where nobody measured."""

    def __len__(self) -> int:
        return len(self.index)

    def only(self, rows: np.ndarray) -> Synthesis:
        """Some of them."""
        chosen = np.flatnonzero(rows) if rows.dtype == bool else rows
        arrays = {name: getattr(self, name)[chosen] for name in ("index", "seeds", "origin", "distance", "near")}
        return Synthesis(x=self.x[torch.from_numpy(chosen)], **arrays)

    @staticmethod
    def joined(parts: list[Synthesis]) -> Synthesis:
        """Several, one after the other."""
        names = ("index", "seeds", "origin", "distance", "near")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return Synthesis(x=torch.cat([part.x for part in parts]), **arrays)


class Synthesizer:
    """A model that makes items of the classes of a data set.

    Args:
        generator: The model.
        data: Real items, for variations.
        matched: What the model takes for each class.
        memorisation: Finds near-copies, which are dropped; none are without.
        vary: Share of items that are variations of real ones, in [0, 1].
        strength: How much variations differ, in (0, 1].
        seed: Of the first item.
        batch_size: Items that go through the network together.
        steps: Sampling steps; the model's default without.
        guidance: Guidance weight; the model's default without.
    """

    def __init__(
        self,
        generator: Generator,
        data: ClassedData,
        matched: Matched,
        *,
        memorisation: Memorisation | None = None,
        vary: float = 0.0,
        strength: float = 0.35,
        seed: int = 0,
        batch_size: int = 64,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        for name, value in {"vary": vary, "strength": strength}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a share from 0 to 1, got {value:g}")
        self.generator, self.data, self.matched, self.memorisation = generator, data, matched, memorisation
        self.vary, self.strength, self.seed = vary, strength, seed
        self._batch, self._more = batch_size, {"steps": steps, "guidance": guidance}
        self.dropped: list[Synthesis] = []
        """Near-copies that were left out."""
        self._next = 0

    def make(self, each: Mapping[int, int], callback: Callable[[float], object] = lambda share: None) -> Synthesis:
        """Items of each class.

        Args:
            each: How many of each class.
            callback: Called with the share of the work that is done.

        Returns:
            The items; fewer of a class of which too many were near-copies.
        """
        parts: list[Synthesis] = []
        missing = {one: count for one, count in each.items() if count > 0}
        for _ in range(ROUNDS):
            if not missing:
                break
            drawn = self._measured(self._drawn(missing, callback))
            copies = np.zeros(len(drawn), bool)
            if self.memorisation is not None:
                copies = self.memorisation.is_copy(drawn.distance, drawn.index)
            if copies.any():
                self.dropped.append(drawn.only(copies))
            parts.append(drawn.only(~copies))
            missing = {one: lost for one in missing if (lost := int((copies & (drawn.index == one)).sum())) > 0}
        made = Synthesis.joined(parts)
        return made.only(np.argsort(made.index, kind="stable"))

    def _measured(self, drawn: Synthesis) -> Synthesis:
        if self.memorisation is not None:
            drawn.distance[:], drawn.near[:] = self.memorisation.distances(drawn.x, drawn.index)
        return drawn

    def _drawn(self, each: Mapping[int, int], callback: Callable[[float], object]) -> Synthesis:
        classes = np.repeat(list(each), list(each.values())).astype(np.int64)
        seeds = self.seed + self._next + np.arange(len(classes))
        self._next += len(classes)
        origin = np.full(len(classes), -1, np.int64)
        for row, seed in enumerate(seeds.tolist()):
            drawn = derived_seed("origin", seed)
            if drawn % 1_000_003 < self.vary * 1_000_003:
                rows = self.data.rows(int(classes[row]))
                origin[row] = rows[drawn // 1_000_003 % len(rows)]
        x = torch.empty(len(classes), *self.generator.signal_shape)
        done = 0
        for varied in (False, True):
            rows = np.flatnonzero((origin >= 0) == varied)
            for start in range(0, len(rows), self._batch):
                some = rows[start : start + self._batch]
                x[torch.from_numpy(some)] = self._one_batch(
                    classes[some], seeds[some], origin[some] if varied else None
                )
                done += len(some)
                callback(done / len(classes))
        blank = np.full(len(classes), np.nan)
        near = np.full(len(classes), -1, np.int64)
        return Synthesis(x=x, index=classes, seeds=seeds, origin=origin, distance=blank, near=near)

    def _one_batch(self, classes: np.ndarray, seeds: np.ndarray, origin: np.ndarray | None) -> Tensor:
        given: dict[str, Any] = {self.matched.field: [self.matched.values[one] for one in classes.tolist()]}
        given |= {name: value for name, value in self._more.items() if value is not None}
        if origin is None:
            return self.generator.sample(seed=seeds.tolist(), batch_size=self._batch, **given)
        real = self.data.signals(origin)
        return self.generator.edit("vary", real, seed=seeds.tolist(), strength=self.strength, **given)
