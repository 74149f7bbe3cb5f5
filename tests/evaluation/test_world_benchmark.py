"""The script that drives in worlds: what it makes of pictures and of what the instruments say."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cli.standins import save_world
from unistep.evaluation.real_play import check_world
from unistep.hub import load

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        world = importlib.import_module("world")

    assert isinstance(world, ModuleType)
    assert sys.modules["world_speed"].__file__ == str(FOLDER / "world_speed.py")
    return world


def painted(road: slice) -> np.ndarray:
    """A green picture with a grey road over some columns."""
    frame = np.full((64, 64, 3), (100, 200, 100), np.uint8)
    frame[:, road] = 105
    return frame


def test_road_beside_the_car_is_seen(script: Any) -> None:
    assert script.road_beside_car(painted(slice(20, 44)))
    assert script.road_beside_car(painted(slice(0, 30)))  # one wheel is enough
    assert not script.road_beside_car(painted(slice(0, 28)))
    assert not script.road_beside_car(painted(slice(0, 0)))


def test_a_drive_ends_when_the_car_has_been_beside_the_road_for_ten_frames(script: Any) -> None:
    assert script.kept([True] * 30) == 30
    assert script.kept([True] * 5 + [False] * 9 + [True] * 5) == 19
    assert script.kept([True] * 5 + [False] * 10 + [True] * 5) == 5
    assert script.kept([False] * 10) == 0


def test_speed_and_turning_add_up_to_a_way(script: Any) -> None:
    straight = script.Drive(begin=(1.0, 2.0, 0.0), speeds=[25.0] * 10, turnings=[0.0] * 10)
    assert np.allclose(straight.trajectory(), [(1, 2 + number) for number in range(11)])
    frames = 1000
    circle = script.Drive(speeds=[5.0] * frames, turnings=[2 * math.pi * 25 / frames] * frames)
    way = circle.trajectory()
    radius = 5.0 / (2 * math.pi * 25 / frames)
    assert np.allclose(way[-1], 0, atol=1e-6)
    assert way[:, 0].max() == pytest.approx(2 * radius, rel=0.01)  # to the right of where it began


def test_frames_of_one_stream_and_of_four_are_timed(script: Any, tmp_path: Path) -> None:
    model = load(save_world(tmp_path / "world"))
    name, spec = check_world(model)
    found = script.real_time(model, name, spec, 3, None)
    assert found["with png, four streams over one"] > 0
    assert found["with png p99, ms"] >= found["with png p50, ms"] > found["png alone p50, ms"] > 0
    keys = script.latency(model, spec, 50, 30, None)
    assert keys["at 50 fps, frames"] == 30
    assert keys["input to frame p50, ms"] > 0


def test_the_ends_of_a_drive_are_kept(script: Any) -> None:
    drive = script.Drive()
    for number in range(120):
        drive.see(np.full((64, 64, 3), number, np.uint8))
    assert [int(frame[0, 0, 0]) for frame in drive.first] == list(range(50))
    assert [int(frame[0, 0, 0]) for frame in drive.last] == list(range(70, 120))
