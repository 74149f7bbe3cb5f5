"""Distances between two sets of features: Fréchet distance, KID, precision, recall, density, coverage.

Everything takes feature tensors ``[n, dim]`` and works in double precision.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

Features = Float[Tensor, "n dim"]


@final
class Moments:
    """Mean and covariance of a stream of features, accumulated in double precision.

    Batches are merged by the update of Chan, Golub and LeVeque, which never subtracts two large numbers the way
    "mean of squares minus square of means" does.

    Args:
        dim: Number of features.

    References:
        Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance", equation 1.5b.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    @classmethod
    def of(cls, features: Features) -> Moments:
        """The moments of one tensor."""
        moments = cls(features.shape[1])
        moments.update(features)
        return moments

    @classmethod
    def known(cls, mean: Float[Tensor, " dim"], covariance: Float[Tensor, "dim dim"], count: int) -> Moments:
        """Moments that were computed before, from ``count`` items."""
        moments = cls(len(mean))
        moments.count, moments.mean, moments._scatter = count, mean.double(), covariance.double() * (count - 1)
        return moments

    @classmethod
    def merged(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of everything that went into some, at least one."""
        moments = cls(len(parts[0].mean))
        for part in parts:
            if part.count:
                moments._take_in(part.count, part.mean, part._scatter)
        return moments

    def update(self, features: Features) -> None:
        """Take in a batch ``[b, dim]``."""
        if not len(features):
            return
        batch = features.detach().double().cpu()
        mean = batch.mean(0)
        centred = batch - mean
        self._take_in(len(batch), mean, centred.T @ centred)

    def _take_in(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        gap = mean - self.mean
        self._scatter = self._scatter + scatter + torch.outer(gap, gap) * (self.count * count / total)
        self.mean = self.mean + gap * (count / total)
        self.count = total

    @property
    def covariance(self) -> Float[Tensor, "dim dim"]:
        """Unbiased covariance.

        Raises:
            ValueError: If fewer than two items came in.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return self._scatter / (self.count - 1)


@final
class _PassThrough(nn.Module):
    """Hands features to torchmetrics as they are."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, x: Tensor) -> Tensor:
        return x


def frechet_distance(real: Features | Moments, fake: Features | Moments) -> float:
    r"""Fréchet distance between the Gaussians that fit two sets of features.

    .. math:: d^2 = \lVert\mu_r - \mu_f\rVert^2 + \mathrm{tr}\,\Sigma_r + \mathrm{tr}\,\Sigma_f
              - 2\,\mathrm{tr}\big(\Sigma_r^{1/2}\,\Sigma_f\,\Sigma_r^{1/2}\big)^{1/2}

    The last trace is the sum of the square roots of the eigenvalues of a symmetric matrix, which no rounding makes
    complex.

    Args:
        real: Features, or their moments.
        fake: Features, or their moments.

    Returns:
        The squared distance, as FID is always stated; at least 0.

    Raises:
        ValueError: If a set has fewer than two items, the widths differ, or a value is not finite.

    References:
        Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions", equation 4;
        Heusel et al. 2017, arXiv 1706.08500, equation 6.
    """
    r = real if isinstance(real, Moments) else Moments.of(real)
    f = fake if isinstance(fake, Moments) else Moments.of(fake)
    if len(r.mean) != len(f.mean):
        raise ValueError(f"cannot compare {len(r.mean)} features with {len(f.mean)}; use one feature network for both")
    if min(r.count, f.count) < 2:
        raise ValueError(f"a Fréchet distance needs at least 2 samples on each side, got {r.count} and {f.count}")
    if not all(x.isfinite().all() for x in (r.mean, r.covariance, f.mean, f.covariance)):
        raise ValueError("the features hold values that are not finite; the samples or the network are broken")
    values, vectors = torch.linalg.eigh(r.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ f.covariance @ root).clamp_min(0).sqrt().sum()
    spread = r.covariance.trace() + f.covariance.trace() - 2 * inner
    return max(float((r.mean - f.mean).square().sum() + spread), 0.0)


def kernel_distance(
    real: Features, fake: Features, *, subsets: int = 50, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    r"""KID: squared maximum mean discrepancy with the kernel :math:`(x^\top y / d + 1)^3`.

    Unlike the Fréchet distance it has no bias from the number of samples; it can come out slightly negative.

    Args:
        real: Features ``[n, dim]``.
        fake: Features ``[m, dim]``.
        subsets: Number of random subsets.
        subset_size: Items in each; at most half of the smaller set, so that subsets differ.
        seed: Seed of the subsets.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        ValueError: If a set has fewer than four items.

    References:
        Bińkowski et al. 2018, arXiv 1801.01401, section 3.1. Computed by torchmetrics.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    smaller = min(len(real), len(fake))
    if smaller < 4:
        raise ValueError(f"KID needs at least 4 samples on each side, got {len(real)} and {len(fake)}")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message=".*will save all extracted features in buffer.*")
        torch.manual_seed(seed)  # torchmetrics draws its subsets from the global generator
        metric = KernelInceptionDistance(
            _PassThrough(real.shape[1]), subsets=subsets, subset_size=min(subset_size, smaller // 2)
        )
        metric.update(real.double().cpu(), real=True)
        metric.update(fake.double().cpu(), real=False)
        mean, std = metric.compute()
    return float(mean), float(std)


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """How far two sets of features overlap, by nearest neighbours; each value is at best about 1."""

    precision: float
    """Share of fake items that lie inside the real manifold: fidelity."""
    recall: float
    """Share of real items that lie inside the fake manifold: diversity."""
    density: float
    """Mean number of real neighbourhoods around a fake item, divided by ``k``: fidelity, robust to outliers."""
    coverage: float
    """Share of real items with a fake item in their neighbourhood: diversity, robust to outliers."""


def neighbourhood(real: Features, fake: Features, *, k: int = 3, k_density: int = 5) -> Neighbourhood:
    """Precision and recall, density and coverage.

    The manifold of a set is the union of balls around its items, each reaching to its ``k``-th neighbour in the set.
    All four depend on the number of items, so both sets should be of the same size.

    Args:
        real: Features ``[n, dim]``.
        fake: Features ``[m, dim]``.
        k: Neighbour that sets the radius for precision and recall.
        k_density: The same for density and coverage.

    Raises:
        ValueError: If a set has no more than ``max(k, k_density)`` items.

    References:
        Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 and 2, ``k = 3``.
        Naeem et al. 2020, arXiv 2002.09797, equations 3 and 5, ``k = 5``.
    """
    from sklearn.metrics import pairwise_distances_chunked

    most = max(k, k_density)
    if min(len(real), len(fake)) <= most:
        raise ValueError(f"precision and recall need over {most} samples on each side, got {len(real)}, {len(fake)}")
    r, f = (x.detach().double().cpu().numpy() for x in (real, fake))
    real_radii, fake_radii = _radii(r, most), _radii(f, most)
    inside_real, counts, inside_fake, nearest = [], [], np.zeros(len(r), bool), np.full(len(r), np.inf)
    # One sweep over all distances answers every question; a block of them is in memory at a time.
    chunks: Any = pairwise_distances_chunked(f, r, working_memory=256)
    start = 0
    for block in chunks:
        stop = start + len(block)
        inside_real.append((block <= real_radii[:, k - 1]).any(1))
        counts.append((block <= real_radii[:, k_density - 1]).sum(1))
        inside_fake |= (block <= fake_radii[start:stop, k - 1, None]).any(0)
        nearest = np.minimum(nearest, block.min(0))
        start = stop
    return Neighbourhood(
        precision=float(np.concatenate(inside_real).mean()),
        recall=float(inside_fake.mean()),
        density=float(np.concatenate(counts).mean() / k_density),
        coverage=float((nearest <= real_radii[:, k_density - 1]).mean()),
    )


def _radii(features: np.ndarray, k: int) -> np.ndarray:
    """Distances ``[n, k]`` from each item to its ``k`` nearest others, itself not counted."""
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(features).kneighbors()
    return distances
