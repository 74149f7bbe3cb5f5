"""Every data set, those of this package and one from outside: order, seeds, shares, resuming, prefetch, conditions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from unistep.codecs.autoencoder import AutoencoderConfig
from unistep.codecs.base import Codec
from unistep.core.condition import Label, LabelField, Tokens, TokensField, Value, select
from unistep.data import Concatenation, Dataset, Loader, Subset, data_config, prepare
from unistep.data.encoded import encode_dataset
from unistep.modalities import ImageModality

COUNT = 30


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 1, 4, 6), dtype=torch.uint8, generator=generator)


class Ramps(Dataset):
    """A data set from outside, made when it is read: item i begins at a random level and rises."""

    modality = ImageModality(size=(4, 6), channels=1)  # type: ignore[assignment]
    fields: Mapping = {"label": LabelField(size=2)}  # type: ignore[assignment]
    fingerprint = "ramps-1"  # type: ignore[assignment]

    def __len__(self) -> int:
        return COUNT

    def batch(self, indices, seeds=None):
        levels = [0 if seeds is None else seeds[i] % 100 for i in range(len(indices))]
        ramp = torch.arange(24, dtype=torch.uint8).view(1, 4, 6)
        stored = torch.stack([ramp + level + int(i) for level, i in zip(levels, indices, strict=True)])
        return stored, {"label": Label(torch.tensor([int(i) % 2 for i in indices]))}


def prepared(tmp_path) -> Dataset:
    np.savez(tmp_path / "a.npz", arr_0=images(COUNT)[:, 0].numpy(), arr_1=np.arange(COUNT) % 3)
    return prepare(data_config(f"npz:{tmp_path / 'a.npz'}", augment=("flip",)), cache_dir=tmp_path, progress=False)


def windows(tmp_path) -> Dataset:
    soundfile = pytest.importorskip("soundfile", reason="recordings need soundfile: pip install 'unistep[audio]'")
    pytest.importorskip("soxr", reason="recordings need soxr: pip install 'unistep[audio]'")
    (tmp_path / "long").mkdir()
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 8_000)
    soundfile.write(tmp_path / "long" / "a.wav", sound, 8_000)
    config = data_config(f"folder:{tmp_path / 'long'}", cut="windows", seconds=0.064, sample_rate=8_000)
    return prepare(config, cache_dir=tmp_path, progress=False)


def tokens(tmp_path) -> Dataset:
    del tmp_path
    value = Tokens(torch.randn(COUNT, 3, 2), torch.rand(COUNT, 3) < 0.5)
    return Dataset.from_tensors(images(COUNT), text=value, fields={"text": TokensField(length=3, dim=2)})


def labelled() -> Dataset:
    return Dataset.from_tensors(images(COUNT), label=torch.arange(COUNT) % 3)


def autoencoder(seed: int = 0) -> Codec:
    torch.manual_seed(seed)
    return AutoencoderConfig(latents=2, widths=(8,)).build((1, 4, 6)).frozen()


DATASETS = {
    "prepared": prepared,
    "windows": windows,
    "tensors": lambda _: Dataset.from_tensors(
        images(COUNT), label=torch.arange(COUNT) % 3, augment=("flip", "edm", "crop")
    ),
    "tokens": tokens,
    "floats": lambda _: Dataset.from_tensors(torch.randn(COUNT, 5), level=torch.rand(COUNT)),
    "subset": lambda _: Subset(Dataset.from_tensors(images(40), label=torch.arange(40) % 3), range(5, 5 + COUNT)),
    "concatenation": lambda _: Concatenation(
        [Dataset.from_tensors(images(n), augment=("flip",), label=torch.arange(n) % 2) for n in (11, COUNT - 11)]
    ),
    "encoded": lambda folder: encode_dataset(labelled(), autoencoder(), cache_dir=folder, progress=False),
    "outside": lambda _: Ramps(),
}


@pytest.fixture(scope="module", params=DATASETS)
def dataset(request, tmp_path_factory) -> Dataset:
    return DATASETS[request.param](tmp_path_factory.mktemp(request.param))


def same(one, other) -> bool:
    """Whether two batches are equal, conditions included."""
    (x, a), (y, b) = one, other
    if a.keys() != b.keys() or not torch.equal(x, y):
        return False
    arrays = [(value.arrays(), b[name].arrays()) for name, value in a.items()]
    return all(np.array_equal(p[key], q[key], equal_nan=p[key].dtype.kind == "f") for p, q in arrays for key in p)


def test_an_item_is_what_its_modality_and_fields_say(dataset):
    stored, condition = dataset.batch([3, 0, 3])
    assert len(dataset) >= 2
    assert stored.shape == (3, *dataset.modality.shape) == (3, *dataset.shape)
    signal = dataset.modality.to_signal(stored)
    assert signal.dtype == torch.float32
    assert torch.equal(stored[0], stored[2])
    assert condition.keys() == dataset.fields.keys()
    for name, value in condition.items():
        assert isinstance(value, Value)
        assert value.kind == dataset.fields[name].kind
        assert len(value) == 3
    assert dataset.summary.good == len(dataset)
    assert dataset.modality.noun in str(dataset.summary)
    assert isinstance(dataset.fingerprint, str)
    assert dataset.fingerprint == dataset.fingerprint


def test_indices_of_any_kind_give_the_same_items(dataset):
    wanted = dataset.batch([1, 4])
    assert same(dataset.batch(np.array([1, 4])), wanted)
    assert same(dataset.batch(range(1, 5, 3)), wanted)
    assert np.array_equal(dataset.values[[1, 4]], wanted[0].numpy())
    assert np.array_equal(dataset.values[1], wanted[0][0].numpy())
    assert dataset.values.shape == (len(dataset), *dataset.shape)


def test_an_item_depends_on_its_seed_alone(dataset):
    seeds = [11, 12, 13, 14]
    together = dataset.batch([5, 2, 7, 2], seeds)
    again = dataset.batch([5, 2, 7, 2], seeds)
    assert same(together, again)
    for row, (index, seed) in enumerate(zip([5, 2, 7, 2], seeds, strict=True)):
        alone = dataset.batch([index], [seed])
        assert same(alone, (together[0][row : row + 1], select(together[1], slice(row, row + 1))))


def test_without_seeds_an_item_is_always_the_same(dataset):
    assert same(dataset.batch([6, 1]), dataset.batch([6, 1]))


def test_ranks_share_a_batch_and_see_together_what_one_sees(dataset):
    alone = Loader(dataset, 6, seed=3)
    ranks = [Loader(dataset, 6, seed=3, rank=rank, world=3) for rank in range(3)]
    for step in (0, 4, 11):
        whole = alone.batch(step)
        parts = [loader.batch(step) for loader in ranks]
        assert torch.equal(torch.cat([part[0] for part in parts]), whole[0])
        for rank, part in enumerate(parts):
            assert same(part, (whole[0][2 * rank : 2 * rank + 2], select(whole[1], slice(2 * rank, 2 * rank + 2))))


def test_reading_ahead_and_resuming_give_what_reading_now_gives(dataset):
    now = Loader(dataset, 7, seed=1, prefetch=0)
    ahead = Loader(dataset, 7, seed=1, prefetch=3)
    steps = ahead.batches()
    for step in range(9):
        assert same(next(steps), now.batch(step))
    resumed = Loader(dataset, 7, seed=1)
    for step in (5, 6, 5, 20, 0):  # from anywhere, forwards, backwards and again
        assert same(resumed.fetch(step), now.batch(step))
    ahead.close(), resumed.close()


def test_a_seed_and_an_epoch_give_one_order(dataset):
    first, other = Loader(dataset, len(dataset), seed=0), Loader(dataset, len(dataset), seed=1)
    assert sorted(first.indices(0)) == list(range(len(dataset)))
    assert np.array_equal(first.indices(0), Loader(dataset, len(dataset), seed=0).indices(0))
    assert not np.array_equal(first.indices(0), first.indices(1))
    assert not np.array_equal(first.indices(0), other.indices(0))


@pytest.mark.parametrize("name", ["prepared", "windows", "tensors", "outside"])
def test_seeds_matter_where_something_is_random(name, tmp_path):
    dataset = DATASETS[name](tmp_path)
    found = {dataset.batch([4], [seed])[0].numpy().tobytes() for seed in range(20)}
    assert len(found) > 1


def test_fingerprints_tell_data_apart():
    x, label = images(8), torch.arange(8) % 2
    first = Dataset.from_tensors(x, label=label)
    assert first.fingerprint == Dataset.from_tensors(x.clone(), label=label).fingerprint
    others = [Dataset.from_tensors(x), Dataset.from_tensors(x + 1, label=label), Subset(first, range(8))]
    others += [Dataset.from_tensors(x, label=1 - label), Dataset.from_tensors(x.float(), label=label)]
    assert len({dataset.fingerprint for dataset in (first, *others)}) == 6


def test_latents_are_made_once_for_data_and_weights(tmp_path, monkeypatch):
    data, codec = labelled(), autoencoder()
    encode, calls = type(codec).encode, []
    monkeypatch.setattr(type(codec), "encode", lambda self, x: (calls.append(len(x)), encode(self, x))[1])
    first = encode_dataset(data, codec, cache_dir=tmp_path, progress=False)
    assert sum(calls) == COUNT
    wanted = codec.encode(data.modality.to_signal(data.batch([2, 9])[0]))
    calls.clear()
    again = encode_dataset(labelled(), autoencoder(), cache_dir=tmp_path, progress=False)
    assert calls == []
    assert again.fingerprint == first.fingerprint
    torch.testing.assert_close(again.batch([2, 9])[0], wanted)
    other = encode_dataset(data, autoencoder(1), cache_dir=tmp_path, progress=False)
    assert sum(calls) == COUNT
    assert other.fingerprint != first.fingerprint
    with pytest.raises(ValueError, match="items of tensors vary in training"):
        encode_dataset(Dataset.from_tensors(images(4), augment=("flip",)), codec, cache_dir=tmp_path)


def test_mistakes_are_one_line():
    x = images(8)
    with pytest.raises(ValueError, match="label has 7 values for 8 items"):
        Dataset.from_tensors(x, label=torch.zeros(7, dtype=torch.long))
    with pytest.raises(ValueError, match=r"images have no augmentation 'flop'; did you mean 'flip'\?"):
        Dataset.from_tensors(x, augment=("flop",))
    with pytest.raises(
        ValueError, match=r"augmentation 'edm:2' must have a probability from 0 to 1 .*, such as edm:0.12"
    ):
        Dataset.from_tensors(x, augment=("edm:2",))
    with pytest.raises(ValueError, match=r"augmentation 'flip:0.5' takes no probability; leave out :0.5"):
        Dataset.from_tensors(x, augment=("flip:0.5",))
    with pytest.raises(ValueError, match="this data has a field 'augmentation', the name of the augmentation's"):
        Dataset.from_tensors(x, augment=("edm",), augmentation=torch.zeros(8))
    with pytest.raises(ValueError, match=r"images must have shape \[n, 3, 4, 6\], got \[8, 1, 4, 6\]"):
        Dataset.from_tensors(x, modality=ImageModality(size=(4, 6), channels=3))
    with pytest.raises(ValueError, match="indices of a subset must be from 0 to 7"):
        Subset(Dataset.from_tensors(x), [8])
    with pytest.raises(ValueError, match="does not fit"):
        Concatenation([Dataset.from_tensors(x), Dataset.from_tensors(images(3)[..., :4])])
