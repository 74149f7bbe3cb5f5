"""Kinds of items drawn evenly: shares by the formula, draws by their seeds alone, kinds from where they are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unistep.data import Dataset
from unistep.data.balanced import BalancedDataset, balanced
from unistep.data.options import DataConfig, data_config
from unistep.data.preparing import prepare
from unistep.data.sources.emoji import Emoji, Picture


def items(counts: tuple[int, ...]) -> Dataset:
    """So many items of each class, whose value is their number."""
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    values = torch.arange(len(label)).float()[:, None, None, None].expand(-1, 1, 2, 2) / 100
    return Dataset.from_tensors(values, label=label)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_a_kind_has_the_share_of_the_formula(balance: float) -> None:
    counts = (1, 4, 16)
    data = items(counts)
    assert data.kinds is not None
    drawn = BalancedDataset(data, data.kinds, balance).drawn(range(20_000))
    seen = np.bincount(data.kinds[drawn], minlength=3) / 20_000
    weight = np.array(counts, float) ** (1 - balance)
    # Five deviations of a share of 20,000 independent draws.
    assert np.abs(seen - weight / weight.sum()).max() < 5 * 0.5 / 20_000**0.5


def test_items_that_stand_alone_are_kinds_by_themselves() -> None:
    data = items((6,))
    drawn = BalancedDataset(data, np.array([0, 0, 0, 0, -1, -1]), 1.0).drawn(range(9000))
    share = np.bincount(drawn, minlength=6) / 9000
    assert np.abs(share - np.array([1, 1, 1, 1, 4, 4]) / 12).max() < 5 * 0.5 / 9000**0.5


def test_draws_follow_their_seeds_and_evaluation_sees_the_data_as_it_is() -> None:
    data = items((3, 9))
    even = balanced(data, data, 1.0)
    assert torch.equal(even.batch([5, 1], [7, 8])[0], even.batch([0, 0], [7, 8])[0])
    assert torch.equal(even.batch([5, 1])[0], data.batch([5, 1])[0])
    assert even.fingerprint == data.fingerprint
    assert len(even) == len(data)
    assert balanced(data, data, 0.0) is data


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"balance must be a number from 0 .* got 1\.5"):
        DataConfig(balance=1.5)
    with pytest.raises(ValueError, match="3 items and 1 kinds; each item needs one"):
        BalancedDataset(items((3,)), np.array([0]), 1.0)
    plain = Dataset.from_tensors(torch.zeros(4, 1, 2, 2))
    with pytest.raises(ValueError, match=r"balance 0\.5 draws classes evenly, and the .* have none"):
        balanced(plain, plain, 0.5)


def test_emoji_with_skin_tones_are_of_one_kind() -> None:
    names = {"man cook: dark skin tone": "man cook", "man cook": None, "flag: France": None, "kiss: man, man": None}
    for name, kin in names.items():
        assert Picture(text="x", name=name, group="g", subgroup="s").kin == kin


def test_a_cache_keeps_kinds(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Picture, "kin", property(lambda picture: picture.name[0]))
    data = prepare(data_config("emoji:excerpt"), cache_dir=tmp_path, progress=False)
    again = prepare(data_config("emoji:excerpt"), cache_dir=tmp_path, progress=False)
    names = [picture.name[0] for picture in Emoji(split="excerpt").chosen()]
    assert again.kinds is not None
    assert data.kinds is not None
    assert [names[i] for i in range(64)] == [sorted(set(names), key=names.index)[k] for k in again.kinds]
