"""The nearest item of the reference, where it is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from unistep import registry
from unistep.data import Dataset
from unistep.evaluation.nearest_metrics import NearestMetrics, nearest
from unistep.evaluation.sample_metrics import Applied
from unistep.modalities.image import ImageModality
from unistep.modalities.video import VideoModality
from unistep.provenance import read_file

CLIPS = VideoModality(size=8, channels=1, frames=4)


def clips(count: int, seed: int = 0) -> torch.Tensor:
    stored = torch.randint(
        0, 256, (count, 1, 4, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )
    return CLIPS.to_signal(stored)


def test_the_nearest_item_is_found_with_its_distance() -> None:
    known = clips(600)  # more than a batch
    data = Dataset.from_tensors(known, modality=CLIPS)
    order = torch.tensor([599, 3, 251, 0])
    distances, position = nearest(known[order] + 0.125, data, range(600))
    assert torch.equal(position, order)
    torch.testing.assert_close(distances, torch.full((4,), 0.125), rtol=1e-3, atol=0)
    distances, position = nearest(known[order], data, [1, 3, 5])
    assert position[1] == 3
    assert distances[1] < 1e-3
    assert distances[0] > 0.1


def test_copies_are_told_from_new_samples_and_shown(tmp_path: Path) -> None:
    data = Dataset.from_tensors(clips(200), modality=CLIPS)
    sheet = tmp_path / "nearest.png"
    metrics = NearestMetrics(data, sheet)
    found = {}
    for name, group, x in (("test", "test", clips(50, 1)), ("copies", "samples", clips(200)[:50])):
        accumulator = metrics.accumulator(group)  # type: ignore[arg-type]
        assert accumulator is not None
        for part in x.split(20):
            accumulator.update(part, {})
        found[name] = accumulator.compute()["nearest"]
        assert sheet.exists() == (group == "samples")
    assert read_file(sheet).generated
    assert found["copies"].value < 0.01 * found["test"].value
    ratio = found["test"].over(found["test"])
    assert ratio is not None
    assert ratio.value == 1
    assert ratio.margin == 0
    with Image.open(sheet) as picture:
        assert picture.height > 12 * 8  # a row for each of six samples, and for the item nearest to it
    assert metrics.accumulator("noise") is None


def test_held_out_items_in_the_order_of_their_classes_are_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unistep.evaluation.nearest_metrics.MOST", 40)
    known = clips(20)
    metrics = NearestMetrics(Dataset.from_tensors(known, modality=CLIPS))
    found = {}
    for group in ("samples", "test"):
        accumulator = metrics.accumulator(group)  # type: ignore[arg-type]
        assert accumulator is not None
        for part in (*known.repeat(5, 1, 1, 1, 1).split(25), *clips(100, 1).split(25)):  # half known, half new
            accumulator.update(part, {})
        found[group] = accumulator.compute()["nearest"].value
    new = float(nearest(clips(100, 1), Dataset.from_tensors(known, modality=CLIPS), range(20))[0].mean())
    assert found["samples"] < 0.01 * new  # the first ones, whose seeds are in no order
    assert 0.25 * new < found["test"] < 0.75 * new


def test_it_applies_to_clips_by_itself() -> None:
    def applied(data: Dataset) -> Applied:
        return Applied(reference=data, test=None, fields=[{}], features=[], given={}, num=4, seed=0)

    kind = registry.lookup("metrics", "nearest")
    assert kind.applied(applied(Dataset.from_tensors(clips(8), modality=CLIPS))) is not None
    images = Dataset.from_tensors(torch.zeros(4, 1, 8, 8), modality=ImageModality(size=8, channels=1))
    assert kind.applied(applied(images)) is None


@pytest.mark.parametrize("count", [1, 2, 40])
def test_few_samples_have_a_figure(count: int) -> None:
    metrics = NearestMetrics(Dataset.from_tensors(clips(20), modality=CLIPS))
    accumulator = metrics.accumulator("samples")
    assert accumulator is not None
    accumulator.update(clips(count, 2), {})
    figure = accumulator.compute()["nearest"]  # type: ignore[assignment]
    assert figure.value > 0  # type: ignore[union-attr]
    assert figure.estimate.margin >= 0  # type: ignore[union-attr]
