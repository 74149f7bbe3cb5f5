r"""What the gradient of a Fréchet distance is for real data, of which a population is too small to know all.

A population of :math:`N` samples has another covariance than the distribution that they come from, so that even real
data is at a distance from itself, and the gradient moves it: each sample stretches the population in its own direction,
which the optimal map to the data takes back. In directions of little variance that is a push as large as any other, and
a generator that follows it loses what it knows of them. For features :math:`\phi` with the mean :math:`m` in a
population whose derivatives are :math:`2(m-\mu)` and :math:`G` (:mod:`unistep.objectives.frechet`),

.. math:: B = \sum_j \frac{v_j^\top M v_j}{\lambda_j} \, v_j v_j^\top, \qquad
          M = E\bigl[ ((m-\mu) + G(\phi-m))\,(\phi-m)^\top \bigr]

over real batches is that push as a function of where a sample is, along the eigenvectors :math:`v_j` of the data's
covariance, whose eigenvalues are :math:`\lambda_j`. With :math:`G - B` in place of :math:`G` real data stays where it
is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.objectives.frechet import SMALLEST_EIGENVALUE, FrechetTarget
from unistep.objectives.population import Population

BATCHES = 64
"""Real batches whose gradients are averaged."""
FILLED = 3
"""Times that the population is filled before, so that its age is that of a long run."""


@torch.no_grad()
def slope_of_real(rows: Float[Tensor, "n dim"], population: Population, batch: int) -> Float[Tensor, "dim dim"]:
    """The matrix :math:`B` of the module's docstring, by drawing batches from real data with replacement.

    Args:
        rows: Features of real items, which stand for the data: more of them than features.
        population: An empty population, which is filled with them.
        batch: Items of each batch.

    Returns:
        A symmetric matrix, float64.
    """
    rows = rows.double()
    covariance = rows.T.cov(correction=0)
    target = FrechetTarget(rows.mean(dim=0), covariance)
    # Always the same draws, on every process: what they find is a property of sizes and of the data.
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(covariance)
    before = -(-FILLED * population.size // batch)
    for i in range(before + BATCHES):
        drawn = rows[torch.randint(len(rows), (batch,), generator=generator).to(rows.device)]
        if i >= before:
            mean, spread = population.moments(drawn)
            _, by_mean, by_covariance = target(mean, spread)
            away = drawn - mean
            total += torch.outer(by_mean / 2, away.mean(dim=0)) + by_covariance @ (away.T @ away) / batch
        population.add(drawn)
    values, vectors = torch.linalg.eigh(covariance)
    along = (vectors * (total @ vectors)).sum(dim=0) / BATCHES
    known = values > SMALLEST_EIGENVALUE * values[-1]
    return (vectors * torch.where(known, along / torch.where(known, values, 1), 0)) @ vectors.T
