"""The size of the signals, where it is open, follows from the budget, from the files and from a model to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from unistep.data import DataConfig
from unistep.modalities.base import Modality
from unistep.modalities.image import ImageModality
from unistep.modalities.image_options import ImageOptions
from unistep.recipes import recipe
from unistep.training import resolve as resolve_module
from unistep.training.budget import parse_amount, rounded_up
from unistep.training.outlook import STUDENT_SPEED
from unistep.training.resolve import time_size
from unistep.training.run_config import RunConfig
from unistep.training.sizes import ChosenSize, choose_size
from unistep.training.timing import StepTime

PIXELS_PER_SECOND = 36 * 64 * 64
"""Speed of one core in the measurements that the thresholds come from."""


def speed(config: RunConfig, modality: Modality) -> float:
    del config
    _, height, width = modality.shape
    return PIXELS_PER_SECOND / (height * width)


def folder(path: Path, side: int, mode: str = "RGB", num: int = 4) -> DataConfig:
    path.mkdir()
    for i in range(num):
        Image.new(mode, (side, side + 10), 20 * i).save(path / f"{i}.png")
    return DataConfig(source=f"folder:{path}")


def chosen(data: DataConfig, budget: str, **changes: object) -> ChosenSize:
    return choose_size(recipe("ect", data, budget=budget, **changes), speed)


def size_of(found: ChosenSize) -> int | None:
    options = found.config.data.options
    return None if options is None else options.size  # type: ignore[attr-defined]


def test_a_longer_budget_takes_a_larger_size_and_all_are_named(tmp_path: Path) -> None:
    data = folder(tmp_path / "a", 100)
    sizes = [size_of(chosen(data, budget)) for budget in ("10m", "45m", "2h")]
    assert sizes == [32, 48, 64]
    found = chosen(data, "45m")
    assert [*found.rows] == ["32 x 32 pixels, RGB", "48 x 48 pixels, RGB", "64 x 64 pixels, RGB", "chosen"]
    # 16 of 40 minutes at 36 images a second, slowed down, are 18,000 of the 30,000 that a student wants.
    student = 0.4 * 45 * 60 * 36 * STUDENT_SPEED
    wanted = rounded_up(45 * 60 * 30_000 / student, "seconds")
    assert f"wants --budget {wanted}" in found.rows["64 x 64 pixels, RGB"]
    assert found.rows["48 x 48 pixels, RGB"].endswith(": enough")
    assert found.rows["chosen"].endswith(f"the next wants --budget {wanted}")
    assert found.config.auto == ("network", "batch_size", "init", "curriculum", "optimizer", "finish_share")


def test_a_budget_that_is_short_for_each_takes_the_nearest(tmp_path: Path) -> None:
    found = chosen(folder(tmp_path / "a", 100), "2m")
    assert size_of(found) == 32
    assert "the budget is short for each" in found.rows["chosen"]


def test_small_files_are_not_enlarged_and_grey_ones_have_no_base(tmp_path: Path) -> None:
    assert chosen(folder(tmp_path / "tiny", 20), "2h").rows == {}
    assert [*chosen(folder(tmp_path / "small", 50), "2h").rows][-2] == "48 x 48 pixels, RGB"
    grey = chosen(folder(tmp_path / "grey", 100, "L"), "2h")
    assert "64 x 64 pixels, grey" in grey.rows
    assert "of 120k wanted" in grey.rows["64 x 64 pixels, grey"]


def test_a_budget_of_items_needs_no_timing(tmp_path: Path) -> None:
    data = folder(tmp_path / "a", 100)

    def never(config: RunConfig, modality: Modality) -> float:
        raise AssertionError

    found = choose_size(recipe("ect", data, budget="500k"), never)
    assert size_of(found) == 64
    assert "500k images in 500k" in found.rows["64 x 64 pixels, RGB"]


def test_there_is_nothing_to_choose_with_a_size_or_a_number_of_steps(tmp_path: Path) -> None:
    data = folder(tmp_path / "a", 100)
    assert chosen(replace(data, options=ImageOptions(size=20)), "2h").rows == {}
    assert size_of(chosen(data, "2h", max_steps=4)) is None
    closed = recipe("ect", data, budget="2h", auto=())
    assert choose_size(closed, speed).config == closed
    assert chosen(DataConfig(), "2h").rows == {}


def test_a_model_to_start_from_gives_its_size(tmp_path: Path) -> None:
    found = chosen(folder(tmp_path / "a", 100), "5m", init="base-64")
    assert size_of(found) == 64
    assert "base-64, whose weights training starts from" in found.rows["64 x 64 pixels, RGB"]


def test_every_file_may_be_broken(tmp_path: Path) -> None:
    data = folder(tmp_path / "a", 100, num=1)
    (tmp_path / "a" / "0.png").write_bytes(b"no picture")
    assert chosen(data, "2h").rows == {}
    assert ImageModality.file_shape(tmp_path / "a" / "0.png") is None


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        *((1.2, "seconds", "2s"), (61, "seconds", "2m"), (600, "seconds", "10m"), (601, "seconds", "11m")),
        *((21 * 60, "seconds", "25m"), (5_400, "seconds", "90m"), (5_401, "seconds", "2h")),
        *((900, "images", "1k"), (81_000, "images", "90k"), (7, "steps", "7")),
    ],
)
def test_budgets_are_rounded_up_to_what_people_write(value: float, unit: str, text: str) -> None:
    assert rounded_up(value, unit) == text  # type: ignore[arg-type]
    assert parse_amount(text, "budget").value >= value


def test_the_timing_run_of_a_size_needs_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signals are random: that the data is to be balanced by classes is of no matter yet."""
    monkeypatch.setattr(resolve_module, "time_steps", lambda *_: StepTime(batch_size=16, gradient=0.5, optimizer=0.3))
    config = recipe("denoising", folder(tmp_path / "a", 40), budget="10m", init=None)
    config = replace(config, data=replace(config.data, balance=1.0))
    found = time_size(config, ImageModality(size=8, channels=3), torch.device("cpu"))
    assert found == pytest.approx(64 / (4 * 0.5 + 0.3))  # at the recipe's batch of 64, with one step of the optimizer
