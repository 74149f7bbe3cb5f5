"""Metrics of videos: frames and motion, by clips for which both are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unistep import registry
from unistep.data import Dataset
from unistep.evaluation.extra_figures import extra_figures, values
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.frame_metrics import FrameMetrics, transport
from unistep.evaluation.measuring import Measure, part_of
from unistep.evaluation.sample_metrics import Applied
from unistep.modalities.audio import AudioModality
from unistep.modalities.video import VideoModality

CLIPS = VideoModality(size=16, channels=1, frames=6)


def sliding(count: int, speed: int, seed: int = 0) -> Tensor:
    """Clips ``[count, 1, 6, 16, 16]`` of a random texture that slides to the right by ``speed`` pixels a frame."""
    texture = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.stack([texture.roll(speed * j, dims=-1) for j in range(6)], dim=2)


def metrics(reference: Tensor) -> FrameMetrics:
    made = FrameMetrics(Dataset.from_tensors(reference, modality=CLIPS), load_features("pixels", CLIPS.still))
    counted: list[int] = []
    made.prepare(counted.append)
    assert sum(counted) == made.work == len(reference)
    return made


def found(made: FrameMetrics, clips: Tensor) -> dict[str, float]:
    accumulator = made.accumulator("samples")
    assert accumulator is not None
    for part in clips.split(50):
        accumulator.update(part, {})
    return {name: figure.value for name, figure in accumulator.compute().items()}  # type: ignore[union-attr]


def test_motion_is_told_apart_where_frames_are_the_same() -> None:
    made = metrics(sliding(120, speed=1))
    same = found(made, sliding(120, speed=1))
    assert same["frames ↓"] == pytest.approx(0, abs=1e-3)
    assert same["motion"] == pytest.approx(1, rel=1e-3)  # the reference is stored in 8 bits
    assert same["motion distance ↓"] == pytest.approx(0, abs=1e-3)
    still = found(made, sliding(120, speed=0))
    assert still["motion"] == 0
    assert still["motion distance ↓"] == pytest.approx(1, rel=1e-3)


def test_frames_are_told_apart_where_motion_is_the_same() -> None:
    made = metrics(sliding(120, speed=1))
    darker = found(made, sliding(120, speed=1) - 0.0001)
    upside_down = found(made, sliding(120, speed=1).cumsum(dim=-2) / 8)  # smoother along the columns
    assert darker["frames ↓"] < 0.1 * upside_down["frames ↓"]


def test_half_the_contrast_is_half_the_motion() -> None:
    made = metrics(sliding(120, speed=2))
    assert found(made, sliding(120, speed=2) / 2)["motion"] == pytest.approx(0.5, rel=1e-3)


def test_samples_stand_beside_as_many_held_out_clips() -> None:
    """A distance falls with the number of clips: that of all samples is far below that of a few real clips."""
    made = metrics(sliding(100, 1))
    measure = Measure([load_features("pixels", CLIPS)], CLIPS, [made])
    held_out = measure(iter([sliding(12, 1, seed=1)]), None, "test")
    row = measure(iter(sliding(100, 1, seed=2).split(30)), None, "samples", part_of(100, held_out.count))
    figure = extra_figures(row.extra_metrics, held_out.extra_metrics, row.alike)["frames ↓"]
    assert figure.over_test is not None
    assert figure.over_test.value == pytest.approx(1, abs=0.3)
    whole, few = (values(each.extra_metrics)["frames ↓"] for each in (row, held_out))
    assert whole < 0.5 * few


def test_transport_is_the_distance_that_numbers_are_moved() -> None:
    a = torch.arange(100.0)
    assert transport(a, a + 3) == pytest.approx(3)
    assert transport(a, torch.full((10,), 49.5)) == pytest.approx(25, rel=0.01)


def test_they_apply_to_videos_alone() -> None:
    def applied(data: Dataset) -> Applied:
        return Applied(reference=data, test=None, fields=[{}], features=[], given={}, num=4, seed=0)

    kind = registry.lookup("metrics", "frames")
    assert kind.applied(applied(Dataset.from_tensors(sliding(4, 1), modality=CLIPS))) is not None
    stills = VideoModality(size=16, channels=1, frames=1)
    assert kind.applied(applied(Dataset.from_tensors(sliding(4, 1)[:, :, :1], modality=stills))) is None
    sounds = Dataset.from_tensors(torch.zeros(4, 1, 100), modality=AudioModality(sample_rate=1000, samples=100))
    assert kind.applied(applied(sounds)) is None
    with pytest.raises(ValueError, match="frames are those of videos, and these are sounds"):
        FrameMetrics(sounds)
    with pytest.raises(ValueError, match="one moment of sounds is no signal itself"):
        sounds.modality.stills(torch.zeros(1, 1, 100))
