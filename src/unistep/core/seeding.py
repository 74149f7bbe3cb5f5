"""Where random numbers come from: a plain generator, one generator per item, or a share of a larger batch.

Every draw here has the batch as its first dimension. That is what lets a sample belong to its seed whichever batch
it rides in, and lets a training step on several processes use the numbers that one process would.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class ItemGenerators:
    """One generator per item, on the CPU: an item's random numbers do not depend on its companions or the device.

    Args:
        seeds: One seed per item, each in ``[0, 2**63)``.

    Raises:
        ValueError: If a seed is negative or too large.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            if not 0 <= seed < 2**63:
                raise ValueError(f"a seed must be from 0 to 2**63 - 1, got {seed}")
        self.items = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.items)

    def select(self, rows: Sequence[int]) -> ItemGenerators:
        """The generators of some items, which go on from where they are."""
        chosen = ItemGenerators([])
        chosen.items = [self.items[row] for row in rows]
        return chosen


@dataclass(frozen=True)
class ShardGenerator:
    """A share of the draws for a larger batch: draws for all ``total`` items, keeps those of ``[start, stop)``."""

    generator: torch.Generator
    """Generator in the state that every share starts from."""
    start: int
    """First item of this share."""
    stop: int
    """One past its last item."""
    total: int
    """Items of the whole batch."""
    draw: int = 0
    """Number of the draw, by which what was computed from it is known."""
    again: bool = False
    """Whether an earlier step had the same draw."""


Randomness = torch.Generator | ItemGenerators | ShardGenerator | None
"""What numbers are drawn from; ``None`` is PyTorch's global generator."""


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all ``parts`` and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _draw(
    num: int, generator: Randomness, one: Callable[[int, torch.Generator | None, torch.device], Tensor]
) -> Tensor:
    """Draw ``num`` items with ``one(count, generator, device)``, whatever kind of generator it is."""
    if isinstance(generator, ItemGenerators):
        if len(generator) != num:
            raise ValueError(f"{len(generator)} item generators cannot serve a batch of {num}")
        drawn = [one(1, g, g.device) for g in generator.items]
        return drawn[0] if num == 1 else torch.cat(drawn)
    if isinstance(generator, ShardGenerator):
        if generator.stop - generator.start != num:
            raise ValueError(f"a share of {generator.stop - generator.start} items cannot serve a batch of {num}")
        inner = generator.generator
        return one(generator.total, inner, inner.device)[generator.start : generator.stop]
    return one(num, generator, torch.device("cpu") if generator is None else generator.device)


def normal(shape: Sequence[int], generator: Randomness) -> Tensor:
    """Standard normal numbers of ``shape`` (batch first), on the generator's device."""
    rest = tuple(shape[1:])
    return _draw(shape[0], generator, lambda n, g, device: torch.randn((n, *rest), generator=g, device=device))


def _sizes(shape: int | Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Number of items, and the shape of one."""
    return (shape, ()) if isinstance(shape, int) else (shape[0], tuple(shape[1:]))


def uniform(shape: int | Sequence[int], generator: Randomness) -> Tensor:
    """Uniform numbers in [0, 1) of ``shape``: a number of items, or sizes with the batch first."""
    num, rest = _sizes(shape)
    return _draw(num, generator, lambda n, g, device: torch.rand((n, *rest), generator=g, device=device))


def randint(high: int, shape: int | Sequence[int], generator: Randomness) -> Tensor:
    """Integers in ``[0, high)`` of ``shape``: a number of items, or sizes with the batch first."""
    num, rest = _sizes(shape)
    return _draw(num, generator, lambda n, g, device: torch.randint(high, (n, *rest), generator=g, device=device))


def multinomial(probabilities: Tensor, shape: int | Sequence[int], generator: Randomness) -> Tensor:
    """Indices drawn with the given ``probabilities`` (shape ``[k]``).

    Args:
        probabilities: Non-negative weights.
        shape: A number of items, or sizes with the batch first.
        generator: Source of randomness.
    """
    num, rest = _sizes(shape)
    each = math.prod(rest)

    def draw(n: int, g: torch.Generator | None, device: torch.device) -> Tensor:
        drawn = torch.multinomial(probabilities.to(device), n * each, replacement=True, generator=g)
        return drawn.view(n, *rest)

    return _draw(num, generator, draw)


def randn_like(x: Tensor, generator: Randomness) -> Tensor:
    """Standard normal noise with the shape, device and dtype of ``x``; of complex numbers, in both of their parts."""
    if x.is_complex():
        return torch.view_as_complex(normal((*x.shape, 2), generator)).to(x)
    return normal(x.shape, generator).to(x)
