"""How sure a Fréchet distance and a ratio of two are, by resampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.evaluation.metrics import Features, Moments

Block = TypeVar("Block")

BLOCKS, BLOCKS_OF_WIDE = 32, 8
"""Blocks into which samples fall, and those of features so wide that their covariances would fill the memory."""
WIDE = 512
"""Features from which on there are few blocks."""
PAIRS = 24
"""Random halves of the blocks, each with the other half."""
_NORMAL = 1.96  # deviations to either side that hold 95 % of a normal distribution


@final
@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with the half width of its 95 % interval."""

    value: float
    """The figure, from all samples."""
    margin: float
    """Half of the width of the interval."""

    @property
    def low(self) -> float:
        """The lower end."""
        return max(self.value - self.margin, 0.0)

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + self.margin


@final
class FrechetReference:
    """The Gaussian of real features, prepared for many distances to it.

    Args:
        real: Their moments.
    """

    def __init__(self, real: Moments) -> None:
        covariance = real.covariance
        values, vectors = torch.linalg.eigh(covariance)
        self.mean, self.count = real.mean, real.count
        self._root, self._trace = (vectors * values.clamp_min(0).sqrt()) @ vectors.T, covariance.trace()

    def distance(self, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"]) -> float:
        """The Fréchet distance of a Gaussian to it; see :func:`~unistep.evaluation.metrics.frechet_distance`."""
        inner = torch.linalg.eigvalsh(self._root @ covariance @ self._root).clamp_min(0).sqrt().sum()
        return max(float((mean - self.mean).square().sum() + self._trace + covariance.trace() - 2 * inner), 0.0)

    def distance_of_items(self, x: Float[Tensor, "n dim"]) -> float:
        r"""The Fréchet distance of the Gaussian of two or more items, in less time where they are fewer than features.

        The eigenvalues of :math:`A A^\top` and :math:`A^\top A` that are not zero are the same, and of
        :math:`A = (x - \bar x)\,\Sigma^{1/2}` one is as large as the items are many, the other as the features.
        """
        mean = x.mean(dim=0)
        apart = (x - mean) / math.sqrt(len(x) - 1)
        scaled = apart @ self._root
        inner = torch.linalg.eigvalsh(scaled @ scaled.T).clamp_min(0).sqrt().sum()
        return max(float((mean - self.mean).square().sum() + self._trace + apart.square().sum() - 2 * inner), 0.0)


@final
@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A Fréchet distance from all samples, and from many random halves of them."""

    value: float
    """The distance of all samples."""
    halves: Float[Tensor, " n"]
    """Distances of halves; the same halves of as many samples from other models, whose seeds are the same."""

    @property
    def estimate(self) -> Estimate:
        """The distance with its interval."""
        return Estimate(value=self.value, margin=self.value * _spread(_log(self.halves)))

    def over(self, other: Resampled) -> Estimate | None:
        """How many times another distance this one is; ``None`` where the other is nothing."""
        if other.value <= 0:
            return None
        ratio = self.value / other.value
        return Estimate(value=ratio, margin=ratio * _spread(_log(self.halves) - _log(other.halves)))


def resampled(features: Features, reference: FrechetReference) -> Resampled:
    r"""The Fréchet distance of features to a reference, from all and from random halves.

    The interval is the delete-half jackknife on blocks of samples: the variance of a statistic of ``n`` items is about
    that of the statistic of random halves. It is taken of the logarithm, because the bias of a Fréchet distance, which
    is inversely proportional to the number of samples, makes a distance of halves larger and about as uncertain in
    proportion. A bootstrap would repeat items, and its distances are too large by about as much again.

    Args:
        features: Features ``[n, dim]`` of independent samples.
        reference: What they are compared with, which counts as exact.

    References:
        Shao & Wu 1989, "A general theory for jackknife variance estimation", The Annals of Statistics 17(3), section 2.
    """
    x = features.detach().double().cpu()
    moments = Moments.of(x)
    value = reference.distance(moments.mean, moments.covariance)
    blocks = min(BLOCKS if x.shape[1] < WIDE else BLOCKS_OF_WIDE, len(x) // 2)
    generator = torch.Generator().manual_seed(0)
    # Items of data sets may be in the order of their classes; the same order for all rows keeps pairs together.
    x = x[torch.randperm(len(x), generator=generator)] - moments.mean
    parts = x.tensor_split(blocks)
    if len(x) < 2 * x.shape[1]:  # fewer items in a half than features
        taken = (
            torch.cat([parts[i] for i in chosen.tolist()]) for chosen in random_halves(blocks, generator) if len(chosen)
        )
        halves = [reference.distance_of_items(half + moments.mean) for half in taken if len(half) > 1]
        return Resampled(value=value, halves=torch.tensor(halves, dtype=torch.float64))
    sizes = torch.tensor([len(part) for part in parts], dtype=torch.float64)
    sums = torch.stack([part.sum(dim=0) for part in parts])
    products = torch.stack([part.T @ part for part in parts])
    halves = []
    for chosen in random_halves(blocks, generator):
        count = sizes[chosen].sum()
        if count < 2:
            continue
        mean = sums[chosen].sum(dim=0) / count
        scatter = products[chosen].sum(dim=0) - count * torch.outer(mean, mean)
        halves.append(reference.distance(mean + moments.mean, scatter / (count - 1)))
    return Resampled(value=value, halves=torch.tensor(halves, dtype=torch.float64))


def random_halves(blocks: int, generator: torch.Generator, pairs: int = PAIRS) -> Iterator[Int[Tensor, " half"]]:
    """Random halves of some blocks, each followed by the other half."""
    for _ in range(pairs):
        order = torch.randperm(blocks, generator=generator)
        yield order[: blocks // 2]
        yield order[blocks // 2 :]


def resampled_blocks(
    blocks: Sequence[Block], figure: Callable[[Sequence[Block]], float], *, pairs: int = PAIRS
) -> Resampled:
    """A figure of samples that fall into blocks, from all blocks and from random halves of them.

    Args:
        blocks: What is known of the samples of each block; samples fall into them in the same way for all rows.
        figure: Computes the figure from some blocks, a positive number.
        pairs: Random halves, each with the other half; the same ones for all figures of as many blocks.
    """
    chosen = random_halves(len(blocks), torch.Generator().manual_seed(0), pairs)
    halves = [figure([blocks[i] for i in half.tolist()]) for half in chosen if len(half)]
    return Resampled(value=figure(blocks), halves=torch.tensor(halves, dtype=torch.float64))


def _log(distances: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return distances.clamp_min(1e-300).log()


def _spread(logarithms: Float[Tensor, " n"]) -> float:
    """Half of the 95 % interval of a logarithm, from its values on random halves."""
    spread = _NORMAL * float(logarithms.std(correction=0)) if len(logarithms) else math.inf
    return min(spread, 1e6)
