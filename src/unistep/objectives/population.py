"""Moments of more samples than a batch has: a running average of them, or a queue of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

Moments = tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]
"""Mean and covariance, float64."""


class Population(nn.Module, ABC):
    """Features of the last samples of a student, some thousands of them, of which a batch replaces some.

    Args:
        size: Number of samples.
        dim: Number of features.

    Raises:
        ValueError: If there would be fewer samples than features.
    """

    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size <= dim:
            raise ValueError(
                f"population {size} is too small for a representation of {dim} features: their covariance would have "
                f"directions without any samples; take {2 * dim} or more, or a smaller representation"
            )
        self.size, self.dim = size, dim
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def moments(self, batch: Float[Tensor, "b dim"]) -> Moments:
        """Mean and covariance as if the batch were the newest samples; nothing is changed."""

    @abstractmethod
    def add(self, batch: Float[Tensor, "b dim"]) -> None:
        """Take in a batch; before the population is full, it only grows."""


def covariance_of(first: Float[Tensor, " dim"], second: Float[Tensor, "dim dim"]) -> Moments:
    """Mean and covariance from the means of the features and of their products."""
    return first, second - torch.outer(first, first)


@final
class RunningMoments(Population):
    r"""Exponential averages of the first and second moments, float64.

    .. math:: m_1 \leftarrow (1-w)\, m_1 + w\, E_B[\phi], \qquad m_2 \leftarrow (1-w)\, m_2 + w\, E_B[\phi\phi^\top],
              \qquad w = \min(1, |B|/N)

    with :math:`N` the size: the decay :math:`\beta = 1 - w` of the paper at any batch size. The average weighs
    samples by age, those of the last :math:`N` by 63 %, and its covariance is as sure as that of :math:`2N` samples.

    Args:
        size: :math:`N`.
        dim: Number of features.

    References:
        Yang et al. 2026, arXiv 2604.28190, section 3: the exponential moving average of the moments.
    """

    first: Tensor
    second: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim)
        self.register_buffer("first", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(dim, dim, dtype=torch.float64))

    def _after(self, batch: Float[Tensor, "b dim"]) -> tuple[Tensor, Tensor]:
        rows = batch.double()
        known = min(int(self.filled), self.size)
        # Until it is full all samples count alike.
        weight = max(len(rows) / (known + len(rows)), min(1.0, len(rows) / self.size))
        first = torch.lerp(self.first, rows.mean(dim=0), weight)
        return first, torch.lerp(self.second, rows.T @ rows / len(rows), weight)

    def moments(self, batch: Float[Tensor, "b dim"]) -> Moments:
        """Mean and covariance with the batch's share."""
        return covariance_of(*self._after(batch))

    def add(self, batch: Float[Tensor, "b dim"]) -> None:
        """Move the averages."""
        first, second = self._after(batch)
        self.first.copy_(first)
        self.second.copy_(second)
        self.filled += len(batch)


@final
class Queue(Population):
    """The features of the last samples themselves, all of the same weight.

    Args:
        size: Number of samples.
        dim: Number of features.

    References:
        Yang et al. 2026, arXiv 2604.28190, section 3: the queue of features.
    """

    rows: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__(size, dim)
        self.register_buffer("rows", torch.zeros(size, dim))
        # Sums of the rows and of their products: a batch changes some rows, and all others need not be added again.
        self.register_buffer("first", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(dim, dim, dtype=torch.float64))

    def _replaced(self, count: int) -> Tensor:
        """Numbers of the rows that a batch takes the place of."""
        return (self.filled + torch.arange(count, device=self.rows.device)) % self.size

    def _after(self, batch: Float[Tensor, "b dim"]) -> tuple[Tensor, Tensor, int]:
        batch = batch[-self.size :].to(self.rows.dtype)
        old, new = self.rows[self._replaced(len(batch))].double(), batch.double()
        count = min(int(self.filled) + len(batch), self.size)
        return self.first + (new - old).sum(dim=0), self.second + new.T @ new - old.T @ old, count

    def moments(self, batch: Float[Tensor, "b dim"]) -> Moments:
        """Mean and covariance with the batch in place of the oldest rows."""
        first, second, count = self._after(batch)
        return covariance_of(first / count, second / count)

    def add(self, batch: Float[Tensor, "b dim"]) -> None:
        """Replace the oldest rows."""
        first, second, _ = self._after(batch)
        batch = batch[-self.size :]
        self.rows[self._replaced(len(batch))] = batch.to(self.rows.dtype)
        self.first.copy_(first)
        self.second.copy_(second)
        self.filled += len(batch)


@final
class ClassMeans(nn.Module):
    r"""Running means of the features of each class, and their distance from those of the data.

    .. math:: \sum_c p_c \lVert m_c - \mu_c\rVert^2

    with :math:`p_c` the share of the class among the samples; of several conditions the mean.

    Args:
        size: Number of samples that the averages weigh, as in :class:`RunningMoments`.
        targets: The data's means for each class, by the name of the condition; NaN for a class that is left alone.
    """

    filled: Tensor

    def __init__(self, size: int, targets: Mapping[str, Float[Tensor, "classes dim"]]) -> None:
        super().__init__()
        self.size, self.names = size, list(targets)
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        for name, means in targets.items():
            self.register_buffer(f"target_{name}", means.double(), persistent=False)
            self.register_buffer(f"sums_{name}", torch.zeros_like(means, dtype=torch.float64))
            self.register_buffer(f"shares_{name}", torch.zeros(len(means), dtype=torch.float64))

    def _after(self, name: str, rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of the features of each class over the number of samples, and shares of the classes."""
        known = min(int(self.filled), self.size)
        weight = max(len(rows) / (known + len(rows)), min(1.0, len(rows) / self.size))
        sums, shares = self.get_buffer(f"sums_{name}"), self.get_buffer(f"shares_{name}")
        has = index >= 0
        member = torch.nn.functional.one_hot(index.clamp(min=0), len(shares)).double() * has[:, None] / len(rows)
        return torch.lerp(sums, member.T @ rows.double(), weight), torch.lerp(shares, member.sum(dim=0), weight)

    def forward(
        self,
        batch: Float[Tensor, "all dim"],
        indices: Mapping[str, Tensor],
        features: Float[Tensor, "b dim"],
        own: Mapping[str, Tensor],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " b"]]:
        """The distance with the newest batch, and the influence of some examples on it.

        Args:
            batch: Features of the newest batch, of all processes.
            indices: Its classes, negative for none.
            features: Features of this process's examples, with their graph.
            own: Their classes.
        """
        total, parts = self.filled.double() * 0, features.new_zeros(len(features))
        for name in self.names:
            sums, shares = self._after(name, batch, indices[name])
            target = self.get_buffer(f"target_{name}")
            known = (shares[:, None] > 0) & target.isfinite()
            gap = torch.where(known, sums / shares[:, None] - target, 0)
            total = total + (shares * gap.square().sum(dim=1)).sum() / len(self.names)
            slope = (2 * gap[own[name].clamp(min=0)] * (own[name] >= 0)[:, None]).to(features)
            parts = parts + (features * slope).sum(dim=1) / len(self.names)
        return total, parts

    def add(self, batch: Float[Tensor, "b dim"], indices: Mapping[str, Tensor]) -> None:
        """Move the averages."""
        moved = {name: self._after(name, batch, indices[name]) for name in self.names}
        for name, (sums, shares) in moved.items():
            self.get_buffer(f"sums_{name}").copy_(sums)
            self.get_buffer(f"shares_{name}").copy_(shares)
        self.filled += len(batch)


POPULATIONS: dict[str, type[Population]] = {"running": RunningMoments, "queue": Queue}
"""How a population is kept, by the name in the options."""


def of_all_processes(rows: Tensor) -> Tensor:
    """The rows of every process, one process after the other, without gradient."""
    rows = rows.detach().contiguous()
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows)
    return torch.cat(parts)


@dataclass
class Newest:
    """A batch of all processes that is not yet part of the populations."""

    steps: int
    """Steps that its samples are made in."""
    features: list[Tensor]
    """Features in each representation."""
    indices: dict[str, Tensor]
    """Classes by the name of the condition."""
    distances: list[Tensor] = field(default_factory=list)
    """Distance of each population that has it."""
