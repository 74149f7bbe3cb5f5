"""Old items among new ones: their share, their order, what each is conditioned on."""

from __future__ import annotations

import pytest
import torch

from unistep.core.condition import LabelField, ScalarField, Tokens
from unistep.core.text_fields import TextField
from unistep.data import Dataset, Loader
from unistep.data.rehearsal import RehearsingDataset

FIELDS = {"label": LabelField(size=4)}


def old(count: int = 20) -> Dataset:
    """Items of the value 1, each with its class and a number."""
    label, size = torch.arange(count) % 4, torch.linspace(0, 1, count)
    return Dataset.from_tensors(torch.ones(count, 1, 4, 4), fields=FIELDS, label=label, size=size)


def new(count: int = 9) -> Dataset:
    """Items of the value -1 with a text."""
    text = Tokens.whole(torch.ones(count, 2, 3))
    return Dataset.from_tensors(-torch.ones(count, 1, 4, 4), text=text)


def test_an_epoch_has_each_new_item_once_and_the_share_of_old_ones() -> None:
    mixed = RehearsingDataset(new(), old(), 0.25, FIELDS)
    assert len(mixed) == 12
    stored, condition = mixed.batch([11, 0, 9, 8], [5, 6, 7, 8])
    values = mixed.modality.to_signal(stored).mean(dim=(1, 2, 3))
    assert values.round().tolist() == [1, -1, 1, -1]
    assert (condition["label"].tensors["index"] >= 0).tolist() == [True, False, True, False]
    assert condition["text"].tensors["mask"].any(dim=1).tolist() == [False, True, False, True]
    assert set(condition) == {"label", "text"}  # the number is not kept
    assert mixed.fingerprint == new().fingerprint


def test_draws_depend_on_their_seeds_alone_and_change_with_the_epoch() -> None:
    mixed = RehearsingDataset(new(), old(), 0.5, FIELDS)
    loader = Loader(mixed, 18, 0)
    drawn = [mixed.batch([10, 11], [seed, seed + 1])[1]["label"].tensors["index"].tolist() for seed in (3, 3, 40, 77)]
    assert drawn[0] == drawn[1]
    assert len({tuple(found) for found in drawn}) > 1
    stored, condition = loader.fetch(1)
    again, other = Loader(mixed, 18, 0).fetch(1)
    assert torch.equal(stored, again)
    assert torch.equal(condition["label"].tensors["index"], other["label"].tensors["index"])
    loader.close()


def test_without_seeds_the_old_items_are_spread() -> None:
    mixed = RehearsingDataset(new(4), old(20), 0.5, FIELDS)
    assert mixed.batch(range(4, 8))[1]["label"].tensors["index"].tolist() == [0, 1, 2, 3]


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="share of old items must be between 0 and 1, got 1"):
        RehearsingDataset(new(), old(), 1.0, FIELDS)
    with pytest.raises(ValueError, match="which is to be rehearsed, of 1 x 2 x 2; take the same"):
        RehearsingDataset(new(), Dataset.from_tensors(torch.ones(3, 1, 2, 2)), 0.5, {})


def test_fields_agree_where_a_network_reads_them_alike() -> None:
    assert LabelField(size=3).agrees(LabelField(size=3))
    assert not LabelField(size=3).agrees(LabelField(size=4))
    assert not ScalarField(low=0, high=1).agrees(LabelField(size=3))
    text = TextField(dim=3, length=4)
    assert text.agrees(TextField(dim=3, length=9, example="a cat"))
    assert not text.agrees(TextField(dim=5, length=4))
