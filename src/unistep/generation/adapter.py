"""What an adapter is of: the part of a model's configuration that names the base whose weights it changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHOWN = 8
"""Digits of a hash that messages show."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A model whose folder holds low-rank differences (LoRA) of the weights of another model, its base.

    References:
        Hu et al. 2021, arXiv 2106.09685.
    """

    base: str
    """The base: a name of the zoo, a folder, or ``owner/name`` on the Hugging Face hub."""
    sha256: str
    """Hash of the base's weights, which must be what they were."""
    rank: int
    """Rank of the differences."""
    alpha: float
    """Their scale: they are multiplied by ``alpha / rank``."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: Naming the one that is out of range.
        """
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise ValueError(f"rank and alpha of an adapter must be positive, got {self.rank} and {self.alpha}")

    @property
    def described(self) -> str:
        """The base with the beginning of its hash, and the rank."""
        return f"LoRA of rank {self.rank} of {self.base} ({self.sha256[:SHOWN]})"
