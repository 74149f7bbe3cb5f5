from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unistep.core.condition import Label, LabelField
from unistep.data import Dataset, Loader


def counting(count: int, labelled: bool = True) -> Dataset:
    """Image i has the value i everywhere, and the label i modulo 3."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 2, 2)
    if not labelled:
        return Dataset.from_tensors(images)
    fields = {"label": LabelField(size=3, names=("a", "b", "c"))}
    return Dataset.from_tensors(images, label=torch.arange(count) % 3, fields=fields)


def test_a_batch_has_images_and_their_labels():
    images, condition = Loader(counting(50), 8, seed=0).batch(3)
    label = condition["label"]
    assert images.shape == (8, 1, 2, 2)
    assert images.dtype == torch.uint8
    assert isinstance(label, Label)
    assert torch.equal(images[:, 0, 0, 0].long() % 3, label.index)
    assert Loader(counting(50, labelled=False), 8, seed=0).batch(3)[1] == {}


@settings(max_examples=25)
@given(
    count=st.integers(1, 40),
    batch=st.integers(1, 50),
    seed=st.integers(0, 2**40),
    steps=st.integers(1, 8),
    data=st.data(),
)
def test_epochs_are_permutations_laid_end_to_end(count, batch, seed, steps, data):
    loader = Loader(counting(count), batch, seed)
    row = np.concatenate([loader.indices(step) for step in range(steps)])
    for epoch in range(len(row) // count):
        assert sorted(row[epoch * count : (epoch + 1) * count]) == list(range(count))
    rest = row[len(row) // count * count :]
    assert len(set(rest.tolist())) == len(rest)
    step = data.draw(st.integers(0, steps - 1))
    fresh = Loader(counting(count), batch, seed)  # resumed there, it goes on the same way
    assert np.array_equal(fresh.indices(step), row[step * batch : (step + 1) * batch])


@settings(max_examples=25)
@given(count=st.integers(1, 40), share=st.integers(1, 9), world=st.integers(1, 5), step=st.integers(0, 10**9))
def test_processes_together_see_what_one_would(count, share, world, step):
    data = counting(count)
    alone = Loader(data, share * world, seed=5).indices(step)
    together = [Loader(data, share * world, seed=5, rank=r, world=world).indices(step) for r in range(world)]
    assert np.array_equal(np.concatenate(together), alone)


def test_seeds_and_epochs_differ():
    data = counting(200)
    orders = [Loader(data, 200, seed=s).indices(e).tolist() for s in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_is_the_same_for_ever():
    assert Loader(counting(10), 10, seed=0).indices(0).tolist() == FIRST


FIRST = [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]


def test_epoch_counts_what_was_seen():
    assert Loader(counting(40), 10, seed=0).epoch(6) == 1.5


def test_an_error_while_reading_ahead_comes_at_its_own_step(monkeypatch):
    loader = Loader(counting(40), 10, seed=0)
    read = loader._read

    def broken(indices, places):
        if places[0] >= 20:
            raise OSError("the disk is gone")
        return read(indices, places)

    monkeypatch.setattr(loader, "_read", broken)
    steps = loader.batches()
    next(steps), next(steps)
    with pytest.raises(OSError, match="gone"):
        next(steps)
    loader.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 10, "world": 4}, "nearest is 8"),
        ({"batch_size": 8, "world": 4, "rank": 4}, "0 to 3"),
        ({"batch_size": 8, "seed": -1}, "negative"),
        ({"batch_size": 8, "prefetch": -1}, "prefetch"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        Loader(counting(5), **{"seed": 0, **arguments})


def test_an_empty_data_set_and_a_negative_step():
    with pytest.raises(ValueError, match="no images"):
        Loader(counting(0), 1, seed=0)
    with pytest.raises(ValueError, match="step"):
        Loader(counting(3), 1, seed=0).batch(-1)
