"""Whether samples are copies: how near the nearest training item is, beside how near it is to items never seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.augmentation.classes import ClassedData
from unistep.evaluation.features import FeatureNetwork

SHARE = 0.01
"""Share of items never seen that are nearer than what counts as a copy."""
SAME = 1e-3
"""Share of the usual distance within which an item is the same as another, however it was rounded."""

_AT_ONCE = 1024  # rows of distances that are in memory together


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """Distances of one class to its training items."""

    limit: float
    """A sample nearer than this is a near-copy."""
    held_out: float
    """Median distance of items that were never seen."""


class Memorisation:
    """Training items, and how near items of each class usually are to them that were never seen.

    The limit of a class is the :data:`SHARE` quantile of held-out distances, so that of honest samples, too, about that
    share is dropped. Held-out items that are training items as well, as duplicates in data are, say nothing of it and
    are left out. Without held-out items each training item stands for one, with all others as the training set.

    Args:
        train: What the samples are compared with.
        held_out: Items of the same classes that the model never saw; none without.
        features: The network in whose features distances are measured.

    Raises:
        ValueError: If a class has one item and nothing was held out, or no held-out item that is not a training item.
    """

    def __init__(self, train: ClassedData, held_out: ClassedData | None, features: FeatureNetwork) -> None:
        self.train, self.features = train, features
        self.from_held_out = held_out is not None
        if held_out is None:
            train.check_counts(2, "telling a copy from a sample without --held-out")
        self._rows = {one: train.rows(one) for one in train.present}
        self._known = {one: self._of(train, rows) for one, rows in self._rows.items()}
        self.classes: dict[int, Nearness] = {}
        for one, known in self._known.items():
            if held_out is None:
                found = nearest_others(known)
            elif (held_out.index == one).any():
                found = nearest(self._of(held_out, held_out.rows(one)), known)[0]
            else:
                raise ValueError(f"class {train.names[one]!r} has no held-out item to compare with")
            values = found.numpy()
            apart = values[values > SAME * float(np.quantile(values, 1 - SHARE))]
            if not len(apart) and self.from_held_out:
                raise ValueError(
                    f"all held-out items of class {train.names[one]!r} are training items as well; give items that the "
                    "model never saw"
                )
            values = apart if len(apart) else values
            limit = float(np.quantile(values, SHARE, method="lower"))
            self.classes[one] = Nearness(limit=limit, held_out=float(np.median(values)))

    def distances(
        self, x: Float[Tensor, "n *shape"], index: Int[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The distance of each sample to the nearest training item of its class, and which item that is."""
        distance, item = np.zeros(len(x)), np.zeros(len(x), np.int64)
        found = self._features(x)
        for one in np.unique(index):
            rows = np.flatnonzero(index == one)
            near, which = nearest(found[torch.from_numpy(rows)], self._known[int(one)])
            distance[rows], item[rows] = near.numpy(), self._rows[int(one)][which.numpy()]
        return distance, item

    def is_copy(self, distance: Float[np.ndarray, " n"], index: Int[np.ndarray, " n"]) -> np.ndarray:
        """Which samples are near-copies, bool ``[n]``."""
        limits = np.asarray([self.classes[int(one)].limit for one in index])
        return distance < limits if self.from_held_out else distance <= limits * (1 - 1e-9)

    def _of(self, data: ClassedData, rows: np.ndarray) -> Float[Tensor, "n dim"]:
        parts = [self._features(data.signals(rows[i : i + _AT_ONCE])) for i in range(0, len(rows), _AT_ONCE)]
        return torch.cat(parts)

    def _features(self, x: Tensor) -> Float[Tensor, "n dim"]:
        return torch.cat([self.features(part).flatten(1) for part in x.split(256)])


def nearest(x: Float[Tensor, "n dim"], known: Float[Tensor, "m dim"]) -> tuple[Tensor, Tensor]:
    """Distance of each row of ``x`` to the nearest row of ``known``, and which it is."""
    which = torch.cat([torch.cdist(part, known).argmin(1) for part in x.split(_AT_ONCE)])
    return (x - known[which]).norm(dim=1), which  # distances of near rows lose digits in a product of matrices


def nearest_others(x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
    """Distance of each row to the nearest other row."""
    found = []
    for start in range(0, len(x), _AT_ONCE):
        block = torch.cdist(x[start : start + _AT_ONCE], x)
        block[torch.arange(len(block)), torch.arange(start, start + len(block))] = torch.inf
        found.append((x[start : start + _AT_ONCE] - x[block.argmin(1)]).norm(dim=1))
    return torch.cat(found)


def summary(
    memorisation: Memorisation, distance: np.ndarray, index: np.ndarray, copies: np.ndarray
) -> list[Mapping[str, object]]:
    """For each class how near its samples are, beside items that were never seen."""
    rows = []
    for one, known in memorisation.classes.items():
        mine = index == one
        median = float(np.median(distance[mine])) if mine.any() else float("nan")
        rows.append(
            {
                "class": memorisation.train.names[one],
                "training items": len(memorisation.train.rows(one)),
                "samples": int(mine.sum()),
                "to train": median,
                "held-out to train": known.held_out,
                "ratio": median / known.held_out if known.held_out > 0 else float("nan"),
                "limit": known.limit,
                "near-copies": int((mine & copies).sum()),
            }
        )
    return rows
