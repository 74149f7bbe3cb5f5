"""The evaluation of clips: what frames, motion and the nearest clips say, beside held-out clips and a teacher."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from unistep.data import Dataset
from unistep.evaluation import Setting, evaluate
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.frame_metrics import FrameMetrics
from unistep.evaluation.nearest_metrics import NearestMetrics
from unistep.evaluation.report import Report
from unistep.modalities.video import VideoModality

CLIPS = VideoModality(size=8, channels=1, frames=4)


def sliding(count: int, seed: int, speed: int = 1) -> Tensor:
    """Stored clips of a texture that slides to the right."""
    generator = torch.Generator().manual_seed(seed)
    texture = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return torch.stack([texture.roll(speed * j, dims=-1) for j in range(4)], dim=2)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        data, held_out = (Dataset.from_tensors(sliding(200, seed), modality=CLIPS) for seed in (0, 1))
        still, moving = CLIPS.to_signal(sliding(100, 2, speed=0)), CLIPS.to_signal(sliding(100, 3))
        assert CLIPS.still is not None
        return evaluate(
            [still, moving],
            data,
            test=held_out,
            features=["pixels"],
            num=100,
            sweep={"samples": (Setting(),)},
            metrics=[FrameMetrics(data, load_features("pixels", CLIPS.still)), NearestMetrics(data)],
            progress=False,
        )


def test_each_further_figure_has_an_interval_and_ratios(report: Report) -> None:
    assert report.compared_metrics == ("frames ↓", "motion", "motion distance ↓", "nearest")
    still, moving, test = report.rows[0], report.rows[1], next(row for row in report.rows if row.name == "test split")
    assert set(still.extra_figures) == set(moving.extra_figures) == set(test.extra_figures) == set(still.extra_metrics)
    for name in report.compared_metrics:
        over = moving.extra_figures[name].over_test
        assert over is not None
        ratio = moving.extra_metrics[name] / test.extra_metrics[name]
        assert over.value == pytest.approx(ratio)
        assert moving.extra_figures[name].margin > 0
    own = still.extra_figures["motion distance ↓"].over_teacher
    assert own is not None
    assert own.value == pytest.approx(
        still.extra_metrics["motion distance ↓"] / moving.extra_metrics["motion distance ↓"]
    )
    assert moving.extra_figures["motion"].over_teacher is None


def test_standing_still_is_seen_in_motion(report: Report) -> None:
    still, moving = report.rows[:2]
    assert still.extra_metrics["motion"] == 0
    assert moving.extra_metrics["motion"] == pytest.approx(1, rel=0.02)
    assert still.extra_metrics["motion distance ↓"] == pytest.approx(1, rel=0.01)
    frames = moving.extra_figures["frames ↓"].over_test
    assert frames is not None
    assert 0.5 < frames.value < 2
    assert next(row for row in report.rows if row.name == "noise").extra_figures == {}


def test_tables_cards_and_files_have_them(report: Report, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=110)
    for table in report.tables(110):
        console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    text = report.markdown()
    for title in ("Frames", "Motion", "Motion distance", "Nearest"):
        assert f"\n{title}" in shown
        assert f"**{title}**" in text
    assert "/ held out" in text
    assert "nearest: root mean square difference" in text
    report.save_json(tmp_path / "r.json")
    again = Report.from_plain(json.loads((tmp_path / "r.json").read_text()))
    assert again.rows == report.rows
