"""Whether an image fits its text."""

from dataclasses import replace

import pytest
import torch

from unistep.core.condition import TextField, Tokens
from unistep.data import Dataset
from unistep.evaluation.sample_metrics import Applied
from unistep.evaluation.text_image import TextImageNetwork, found_among, load_text_image, save_text_image
from unistep.evaluation.text_metrics import TextMetrics
from unistep.modalities.image import ImageModality

SHAPE = (3, 16, 16)


def network() -> TextImageNetwork:
    torch.manual_seed(0)
    return TextImageNetwork(in_channels=3, size=16, channels=(8, 16), text_dim=6, dim=8)


def items(count: int = 24) -> Dataset:
    """Pictures of one colour each, with that colour as their text."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(count, 3, generator=generator)
    x = (colours[:, :, None, None].expand(count, *SHAPE) * 2 - 1).contiguous()
    vectors = torch.cat([colours, colours.flip(1)], dim=1)[:, None]
    field = TextField(length=1, dim=6, encoder="minilm")
    return Dataset.from_tensors(
        x, modality=ImageModality(size=16, channels=3), fields={"text": field}, text=Tokens.whole(vectors)
    )


def applied(reference: Dataset, *fields: dict[str, object]) -> Applied:
    """An evaluation of models with these conditions; of one with texts by default."""
    return Applied(
        reference=reference, test=None, fields=fields or [{"text": None}], features=[], given={}, num=24, seed=0
    )


def test_the_own_text_is_found_where_it_is_the_closest():
    texts = torch.eye(24)
    own = torch.arange(24)
    generator = torch.Generator().manual_seed(0)
    assert found_among(texts, own, texts, generator).mean() == 1
    assert found_among(-texts, own, texts, generator).mean() == 0
    # Equal closeness is no find: an image that says nothing finds nothing.
    assert found_among(torch.ones(24, 24), own, texts, generator).mean() == 0


def test_the_same_text_of_another_item_is_no_other_text():
    texts = torch.eye(24).repeat(3, 1)
    generator = torch.Generator().manual_seed(0)
    assert found_among(texts, torch.arange(72), texts, generator).mean() == 1
    few = torch.cat([texts[:18], texts[:1].repeat(3, 1)])
    with pytest.raises(ValueError, match="among 20 texts needs as many that differ, got 18"):
        found_among(texts[:1], torch.arange(1), few, generator)


def test_few_captions_of_many_items_have_no_such_figure(monkeypatch):
    few = Dataset.from_tensors(
        torch.zeros(72, *SHAPE),
        modality=ImageModality(size=16, channels=3),
        fields={"text": TextField(length=1, dim=6, encoder="minilm", evaluator="any")},
        text=Tokens.whole(torch.eye(6).repeat(12, 1)[:, None]),
    )
    monkeypatch.setattr("unistep.evaluation.text_metrics.load_text_image", lambda name: network())
    assert TextMetrics.applied(applied(few)) is None
    with pytest.raises(ValueError, match="choosing among 20 texts needs as many that differ"):
        TextMetrics(few, 24, 0, network=network())


def test_chance_is_one_in_the_number_of_choices():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4000, 8, generator=generator)
    texts = torch.randn(40, 8, generator=generator)
    own = torch.randint(40, (4000,), generator=generator)
    share = found_among(images, own, texts, generator, choices=20).mean().item()
    assert abs(share - 0.05) < 4 * (0.05 * 0.95 / 4000) ** 0.5


def test_too_few_texts_are_refused():
    with pytest.raises(ValueError, match="among 20 texts needs as many, got 3"):
        found_among(torch.eye(3), torch.arange(3), torch.eye(3), torch.Generator())


def test_training_brings_texts_and_images_together_and_metrics_see_it():
    data, net = items(), network()
    generator = torch.Generator().manual_seed(0)
    x, condition = data.batch(range(24))
    signal = data.modality.to_signal(x)
    vectors = condition["text"].tokens[:, 0]  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(120):
        loss = net.train().loss(signal + 0.02 * torch.randn(signal.shape, generator=generator), vectors)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    metrics = TextMetrics(data, 24, 0, network=net.eval())
    right = metrics.accumulator("samples")
    wrong = metrics.accumulator("samples")
    assert right is not None
    assert wrong is not None
    real = signal[metrics.index]
    for start in range(0, 24, 10):
        right.update(real[start : start + 10], {})
        wrong.update(real.roll(7, 0)[start : start + 10], {})
    assert right.compute()["retrieved ↑"] > 0.5
    assert wrong.compute()["retrieved ↑"] < 0.3
    texts = metrics.condition["text"]
    assert len(texts) == 24
    assert torch.equal(texts[5][0], vectors[metrics.index[5]])


def test_held_out_items_are_judged_by_their_own_texts():
    data, net = items(), network().eval()
    test = Dataset.from_tensors(
        torch.zeros(21, *SHAPE),
        modality=data.modality,
        fields=data.fields,
        text=Tokens.whole(torch.randn(21, 1, 6, generator=torch.Generator().manual_seed(1))),
    )
    metrics = TextMetrics(data, 30, 3, network=net, test=test)
    assert len(metrics.index) == 30
    assert set(metrics.index) == set(range(24))  # items come again where there are fewer than samples
    found = metrics.accumulator("test")
    assert found is not None
    texts = net.embed_texts(test.conditions(range(21))["text"].tokens[:, 0])  # type: ignore[attr-defined]
    net.embed_images = lambda images: texts[: len(images)]  # type: ignore[method-assign]
    found.update(torch.zeros(21, *SHAPE), {})
    assert found.compute()["retrieved ↑"] == 1  # each image was given the vector of its own text
    assert metrics.accumulator("reference") is None
    assert metrics.accumulator("noise") is None


def test_metrics_apply_only_where_a_network_knows_such_items():
    data = items()
    assert TextMetrics.applied(applied(data)) is None  # its field names no network
    asked = replace(data.fields["text"], evaluator="emoji-text")
    x = torch.zeros(24, *SHAPE)
    small = Dataset.from_tensors(
        x, modality=data.modality, fields={"text": asked}, text=Tokens.whole(torch.zeros(24, 1, 6))
    )
    assert TextMetrics.applied(applied(small)) is None  # it knows images of 64 pixels
    wide = ImageModality(size=64, channels=3)
    read = Tokens.whole(torch.randn(24, 1, 384, generator=torch.Generator().manual_seed(0)))
    large = Dataset.from_tensors(
        torch.zeros(24, 3, 64, 64), modality=wide, fields={"text": replace(asked, dim=384)}, text=read
    )
    assert TextMetrics.applied(applied(large)) is not None
    assert TextMetrics.applied(applied(large, {"text": None}, {"label": None})) is None
    assert TextMetrics.applied(replace(applied(large), given={"text": "a cat"})) is None


def test_a_saved_network_is_the_same(tmp_path):
    net = network().eval()
    save_text_image(net, tmp_path / "net", "A card.")
    loaded = load_text_image(str(tmp_path / "net"))
    x = torch.rand(2, *SHAPE)
    # Weights are stored in half precision: eleven bits.
    assert (net.embed_images(x) - loaded.embed_images(x)).abs().max() < 0.02
    with pytest.raises(ValueError, match="no text-image network"):
        load_text_image("emoji-texts")
