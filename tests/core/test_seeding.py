"""Randomness that belongs to the item, and the shares of a larger batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from unistep.core.seeding import (
    ItemGenerators,
    Randomness,
    ShardGenerator,
    derived_seed,
    multinomial,
    normal,
    randint,
    randn_like,
    uniform,
)

DRAWS: dict[str, Callable[[int, Randomness], Tensor]] = {
    "normal": lambda num, g: normal((num, 2, 3), g),
    "uniform": uniform,
    "randint": lambda num, g: randint(1000, num, g),
    "multinomial": lambda num, g: multinomial(torch.ones(500) / 500, num, g),
    "randn_like": lambda num, g: randn_like(torch.zeros(num, 4), g),
}


@settings(max_examples=30)
@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6), data=st.data())
def test_an_item_does_not_depend_on_its_companions(seeds: list[int], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(seeds) - 1))
    batch, alone = ItemGenerators(seeds), ItemGenerators([seeds[i]])
    for draw in DRAWS.values():
        assert torch.equal(draw(1, alone)[0], draw(len(seeds), batch)[i])


@pytest.mark.parametrize("name", DRAWS)
def test_shares_are_the_slices_of_the_whole_batch(name: str) -> None:
    """Two processes together use the numbers that one would, and go on from the same state."""
    draw = DRAWS[name]
    whole = torch.Generator().manual_seed(3)
    first, second = (
        ShardGenerator(torch.Generator().manual_seed(3), start, stop, 6) for start, stop in ((0, 2), (2, 6))
    )
    for _ in range(2):
        assert torch.equal(torch.cat([draw(2, first), draw(4, second)]), draw(6, whole))


@pytest.mark.parametrize("name", DRAWS)
def test_draws_repeat_with_their_generator_and_advance_it(name: str) -> None:
    draw = DRAWS[name]
    a, b = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    first = draw(8, a)
    assert torch.equal(first, draw(8, b))
    assert not torch.equal(first, draw(8, a))
    torch.manual_seed(5)
    assert torch.equal(first, draw(8, None))


def test_different_seeds_give_different_standard_normal_noise() -> None:
    noise = normal((200, 50), ItemGenerators(range(200)))
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    assert len(set(noise[:, 0].tolist())) == 200
    # Neighbouring seeds are not correlated.
    assert abs(torch.corrcoef(torch.stack([noise[:-1].flatten(), noise[1:].flatten()]))[0, 1]) < 0.03


def test_draws_have_their_laws(generator: torch.Generator) -> None:
    assert stats.kstest(uniform(5000, generator).numpy(), "uniform").pvalue > 0.01
    assert set(randint(5, 500, generator).tolist()) == {0, 1, 2, 3, 4}
    chosen = multinomial(torch.tensor([0.2, 0.0, 0.8]), 5000, generator)
    assert set(chosen.tolist()) == {0, 2}
    assert (chosen == 2).float().mean().item() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 2\\*\\*63 - 1, got {seed}"):
        ItemGenerators([0, seed])


def test_noise_takes_shape_and_type_from_the_signal(generator: torch.Generator) -> None:
    x = torch.zeros(3, 2, 2, dtype=torch.float64)
    assert len(ItemGenerators([1, 2, 3])) == 3
    for source in (generator, ItemGenerators([1, 2, 3]), ShardGenerator(generator, 1, 4, 9), None):
        noise = randn_like(x, source)
        assert noise.shape == x.shape
        assert noise.dtype == torch.float64


def test_the_number_of_items_must_fit_the_batch(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="2 item generators cannot serve a batch of 3"):
        randn_like(torch.zeros(3, 1), ItemGenerators([1, 2]))
    with pytest.raises(ValueError, match="a share of 2 items cannot serve a batch of 3"):
        uniform(3, ShardGenerator(generator, 0, 2, 4))


def test_derived_seeds_depend_on_every_part_and_on_nothing_else() -> None:
    seeds = {derived_seed(*parts) for parts in ((0,), (1,), (0, 1), (1, 0), (0, "data"), (0, "noise"), (0, "noise", 1))}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Fixed for ever: a run that is resumed with a later version must draw the same numbers.
    digest = hashlib.blake2b(b"0/data/7", digest_size=8).digest()
    assert derived_seed(0, "data", 7) == int.from_bytes(digest, "little") // 2
