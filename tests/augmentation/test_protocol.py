"""The arithmetic of the protocol on closed forms, and on data where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from unistep.augmentation.classes import ClassedData, class_folders, folder_name, match_classes
from unistep.augmentation.classifier import ClassifierOptions
from unistep.augmentation.memorisation import Memorisation, nearest, nearest_others
from unistep.augmentation.protocol import ProtocolOptions, _half, equivalent_items, interval, measure, needed
from unistep.augmentation.synthetic import Synthesis
from unistep.augmentation.writing import table
from unistep.core.condition import LabelField
from unistep.data import Dataset
from unistep.evaluation import load_features
from unistep.modalities.image import ImageModality

MODALITY = ImageModality(size=8, channels=1)
QUICK = ProtocolOptions(
    multiples=(1.0, 4.0), seeds=4, classifier=ClassifierOptions(steps=30, batch_size=16, widths=(8, 8))
)


def stripes(count: int, seed: int, *, noise: float = 1.0, swapped: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Upright stripes are class 0, lying ones class 1, at a random place and under noise."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 2
    phase = torch.randint(0, 4, (count, 1, 1), generator=generator)
    wave = torch.where((torch.arange(8)[None, None, :] + phase) % 4 < 2, 0.5, -0.5).expand(count, 8, 8)
    x = torch.where(label[:, None, None] == 0, wave, wave.transpose(1, 2))[:, None]
    x = x + noise * torch.randn(x.shape, generator=generator)
    return x.clamp(-1, 1), (1 - label if swapped else label)


def classed(x: torch.Tensor, label: torch.Tensor) -> ClassedData:
    fields = {"label": LabelField(size=2, names=("upright", "lying"))}
    return ClassedData.of(Dataset.from_tensors(x, modality=MODALITY, fields=fields, label=label))


def synthesis(x: torch.Tensor, label: torch.Tensor) -> Synthesis:
    blank = np.full(len(x), -1)
    return Synthesis(x=x, index=label.numpy(), seeds=blank, origin=blank, distance=blank * np.nan, near=blank)


def test_an_interval_is_that_of_the_closed_form():
    values = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    found = interval(values, 0.95)
    seeds, items = np.array([0.75, 1.0, 0.5]), np.array([2 / 3, 1 / 3, 1.0, 1.0])
    spread = math.sqrt(seeds.var(ddof=1) / 3 + items.var(ddof=1) / 4)
    assert found.value == pytest.approx(0.75)
    assert found.margin == pytest.approx(4.302653 * spread, rel=1e-5)  # Student's t with two degrees of freedom


def test_intervals_hold_as_often_as_they_say():
    """Differences of mean zero, of which seeds and items each have their share."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        values = random.normal(size=(5, 1)) * 0.3 + random.normal(size=(1, 40)) + random.normal(size=(5, 40))
        found = interval(values, 0.95)
        inside += found.low <= 0 <= found.high
    assert inside >= 372  # 95 % of 400, less two deviations; on the safe side it may be more


def test_equivalent_items():
    assert equivalent_items(0.02, 0.02, 100) == pytest.approx(100)  # as much as a doubling
    assert equivalent_items(0.04, 0.02, 100) == pytest.approx(300)
    assert equivalent_items(-0.01, 0.02, 100) is None
    assert equivalent_items(0.01, 0.0, 100) is None


def test_it_says_yes_where_synthetic_items_are_good_and_no_where_they_are_wrong():
    """The two real items of a class are of the other one, so that whatever is right must come from synthetic ones."""
    real, test = classed(*stripes(4, 0, noise=0.3, swapped=True)), classed(*stripes(100, 1, noise=0.3))
    good = measure(real, test, synthesis(*stripes(16, 2, noise=0.3)), replace(QUICK, seeds=8))
    assert good.helps
    assert good.best == "+4x"
    assert good.recommendation.startswith("yes: +4x synthetic items help")
    assert good.gains["+4x"].value > 0.2
    assert good.baseline == max(("classical", "real"), key=lambda name: good.accuracy[name].value)
    gain = good.accuracy["+4x"].value - good.accuracy[good.baseline].value
    assert good.gains["+4x"].value == pytest.approx(gain)
    real = classed(*stripes(4, 0, noise=0.3))
    wrong = measure(real, test, synthesis(*stripes(16, 2, noise=0.3, swapped=True)), QUICK)
    assert not wrong.helps
    assert wrong.recommendation.startswith("no: ")
    assert wrong.equivalent is None
    assert set(good.accuracy) == {"real", "classical", "+1x", "+4x"}
    assert good.per_class["real"].keys() == {"upright", "lying"}
    mean = np.mean(list(good.per_class["classical"].values()))
    assert mean == pytest.approx(good.accuracy["classical"].value)


def test_gains_are_over_real_items_alone_where_classical_augmentation_harms(monkeypatch):
    monkeypatch.setattr(ImageModality, "random_view", lambda self, x, generator: torch.zeros_like(x))
    real, test = classed(*stripes(64, 0, noise=0.3)), classed(*stripes(100, 1, noise=0.3))
    found = measure(real, test, synthesis(*stripes(256, 2, noise=0.3)), QUICK)  # which is augmented as well
    assert found.accuracy["real"].value > 0.8
    assert found.baseline == "real"
    assert "over real items alone" in found.recommendation
    assert found.recommendation.startswith("no: synthetic items harm at every multiple")


def test_it_says_no_where_nothing_is_there_to_find():
    noise = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real, test = classed(*stripes(8, 0, noise=0.2)), classed(*stripes(60, 1, noise=0.2))
    assert not measure(real, test, synthesis(noise, torch.arange(32) % 2), QUICK).helps


def test_both_runs_of_one_comparison_are_the_same():
    few = ProtocolOptions(multiples=(1.0,), seeds=2, classifier=ClassifierOptions(steps=3, batch_size=8, widths=(8,)))
    real, test, made = classed(*stripes(12, 0)), classed(*stripes(40, 1)), synthesis(*stripes(48, 2))
    a, b = (measure(real, test, made, few) for _ in range(2))
    assert a.accuracy == b.accuracy
    assert a.gains == b.gains


def test_parts_share_no_item_and_keep_the_classes():
    x, label = stripes(100, 0)
    data = classed(x, label)
    first, second = data.split(0.3)
    assert (len(first), len(second)) == (70, 30)
    assert first.counts == {"upright": 35, "lying": 35}
    both = torch.cat([first.signals(), second.signals()])
    assert len(torch.unique(both.flatten(1), dim=0)) == len(torch.unique(data.signals().flatten(1), dim=0))
    assert not {tuple(a) for a in first.signals().flatten(1).tolist()} & {
        tuple(b) for b in second.signals().flatten(1).tolist()
    }
    few, more = first.few(5), first.few(10)
    assert {tuple(a) for a in few.signals().flatten(1).tolist()} < {
        tuple(b) for b in more.signals().flatten(1).tolist()
    }
    assert first.at_most(20).counts == {"upright": 10, "lying": 10}
    assert needed(few, (0.5, 4.0)) == {0: 20, 1: 20}


def test_a_class_of_one_is_one_line():
    x, _ = stripes(11, 0)
    data = classed(x, torch.tensor([0] * 10 + [1]))
    for call in (lambda: data.split(0.3), lambda: data.few(2)):
        with pytest.raises(ValueError, match="class 'lying' of tensors has 1 item") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_nearest_neighbours_are_those_of_all_distances():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(50, 3, generator=generator), torch.randn(70, 3, generator=generator)
    distances = (a[:, None] - b[None]).square().sum(-1).sqrt()
    found, which = nearest(a, b)
    assert torch.allclose(found, distances.min(1).values, atol=1e-5)
    assert torch.equal(which, distances.min(1).indices)
    own = (a[:, None] - a[None]).square().sum(-1).sqrt().fill_diagonal_(torch.inf).min(1).values
    assert torch.allclose(nearest_others(a), own, atol=1e-3)  # distances of near rows lose digits in a product


def test_items_that_are_held_out_and_trained_on_do_not_hide_copies():
    """One of them made the limit of its class zero, so that nothing was a copy any more."""
    network = load_features("pixels", MODALITY)
    train, (x, label) = classed(*stripes(40, 0)), stripes(20, 1)
    copies, index = train.signals(), train.index
    for duplicates in (0, 3):
        held_out = torch.cat([copies[:duplicates], x[duplicates:]])
        found = Memorisation(train, classed(held_out, label), network)
        assert found.is_copy(found.distances(copies, index)[0], index).all()
        fresh, of = stripes(20, 2)
        assert not found.is_copy(found.distances(fresh, of.numpy())[0], of.numpy()).all()
    with pytest.raises(ValueError, match="all held-out items of class 'upright' are training items as well"):
        Memorisation(train, train, network)


@pytest.mark.parametrize(
    ("names", "field", "expected"),
    [
        (("a", "b"), LabelField(size=3, names=("B", "x", "A")), {0: 2, 1: 0}),
        (("4", "7"), LabelField(size=3, numbers=(4, 5, 7)), {0: 0, 1: 2}),
        (("T_shirt", "b"), LabelField(size=2, names=("b", "T/shirt")), {0: 1, 1: 0}),
        (("0", "1"), LabelField(size=2, names=("cat", "dog")), {0: 0, 1: 1}),
        (("cat", "Cat"), LabelField(size=2, names=("Cat", "cat")), {0: 1, 1: 0}),
        (("2", "3"), LabelField(size=3, names=("1", "2", "3")), {0: 1, 1: 2}),
        (("10", "2"), LabelField(size=4, names=("0", "1", "10", "2")), {0: 2, 1: 3}),
        (("1", "2"), LabelField(size=2, names=("cat", "dog")), {0: 0, 1: 1}),  # not both the dog
        (("10", "9"), LabelField(size=2, names=("cat", "dog")), {0: 1, 1: 0}),
    ],
)
def test_classes_are_found_by_name_or_number(names, field, expected):
    x, label = stripes(8, 0)
    fields = {"label": LabelField(size=2, names=names)}
    data = ClassedData.of(Dataset.from_tensors(x, modality=MODALITY, fields=fields, label=label))
    values = match_classes(data, {"label": field}, "mine").values
    assert {one: field.position("label", value) for one, value in values.items()} == expected


def test_half_of_the_real_items_are_of_all_of_them():
    """They were the first ones, such as those of the first day."""
    data = classed(*stripes(80, 0))
    half = torch.cat([_half(data).x, data.signals()]).flatten(1)
    at = torch.cdist(half[:40], half[40:]).argmin(dim=1)
    assert len(at.unique()) == 40
    assert int((at >= 40).sum()) > 10


def test_classes_that_a_model_lacks_are_named():
    data = classed(*stripes(8, 0))
    with pytest.raises(ValueError, match="the model mine has no class 'upright'"):
        match_classes(data, {"label": LabelField(size=2, names=("cat", "dog"))}, "mine")
    superscript = ClassedData.of(
        Dataset.from_tensors(
            data.dataset.batch(range(8))[0],
            modality=MODALITY,
            fields={"label": LabelField(size=2, names=("²", "b"))},
            label=torch.arange(8) % 2,
        )
    )
    with pytest.raises(ValueError, match="the model mine has no class '²'"):
        match_classes(superscript, {"label": LabelField(size=2, names=("cat", "b"))}, "mine")
    gaps = replace(data, names=("5", "9"))
    with pytest.raises(ValueError, match="the model mine has no class '9'"):  # and 5 is not its 4
        match_classes(gaps, {"label": LabelField(size=2, numbers=(4, 5))}, "mine")
    with pytest.raises(ValueError, match="mine has no classes"):
        match_classes(data, {}, "mine")


def test_names_of_folders():
    assert folder_name("T-shirt/top") == "T-shirt_top"
    assert folder_name("..") == "_"
    assert class_folders(["a/b", "a_b", "A_B", "b", "a\nb"]) == ["a_b", "a_b (2)", "A_B (3)", "b", "a_b (4)"]


def test_no_name_of_a_class_breaks_a_table():
    assert table([{"class": "a|b\n\x1b[2J", "samples": 3}])[2:] == ["| a\\|b\\n\\x1b[2J | 3 |"]
