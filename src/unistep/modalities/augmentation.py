"""The contract of an augmentation that is a condition of the network, so that samples do not show it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ConditionalAugmentation(ABC):
    """Random changes of one stored item that a vector describes completely; the network is given that vector.

    At sampling time the vector is zero, which stands for an item that was not changed. So the changes may be such as
    the data never shows.

    References:
        Karras et al. 2022, arXiv 2206.00364, appendix F.2.
    """

    size: ClassVar[int]
    """Numbers of the vector."""

    probability: float = 0.12
    """Probability of each change, in [0, 1]; 0.12 is the one of CIFAR-10 in the paper and 0.15 that of FFHQ."""

    def __post_init__(self) -> None:
        """Check the probability.

        Raises:
            ValueError: If it is none.
        """
        if not 0 <= self.probability <= 1:
            raise ValueError(f"the probability of an augmentation must be from 0 to 1, got {self.probability:g}")

    def with_probability(self, probability: float) -> Self:
        """The same changes with another probability."""
        return replace(self, probability=probability)

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Float[Tensor, " size"]:
        """What to do to an item, from a generator of its own; zeros for nothing."""

    @abstractmethod
    def apply(self, item: Tensor, vector: Float[Tensor, " size"]) -> Tensor:
        """A stored item, or a reference signal that belongs to it, changed as the vector says."""
