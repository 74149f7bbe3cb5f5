"""The stages of a curriculum follow the number of steps where they are left open, once, when a run begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tiny import assert_same, run, run_config

from unistep.core.timesteps import RatioCurriculum
from unistep.objectives.ect import ECTConfig
from unistep.recipes import recipe
from unistep.serialization import read_json
from unistep.training.run_config import RunConfig

WIDE = RatioCurriculum(q=1.1, stages=3)


def _stages(folder: Path) -> int:
    objective = read_json(RunConfig, folder / "config.json").objective
    assert isinstance(objective, ECTConfig)
    return objective.curriculum.stages


def test_a_short_run_leaves_out_the_narrowest_gaps_and_says_so(tmp_path: Path) -> None:
    config = replace(run_config("ect", tmp_path), objective=ECTConfig(curriculum=WIDE), auto=("curriculum",))
    done, said = run(config, tmp_path / "run")
    assert done
    assert "1 of 3 stages; all of them want 150 steps" in said.replace("\n", " ")
    assert _stages(tmp_path / "run") == 1
    assert not read_json(RunConfig, tmp_path / "run" / "config.json").auto


def test_it_trains_with_the_stages_that_are_left(tmp_path: Path) -> None:
    config = replace(run_config("ect", tmp_path), objective=ECTConfig(curriculum=WIDE), auto=("curriculum",))
    run(config, tmp_path / "shortened")
    one = RatioCurriculum(q=1.1, stages=1)
    run(replace(run_config("ect", tmp_path), objective=ECTConfig(curriculum=one)), tmp_path / "one")
    assert_same(tmp_path / "shortened", tmp_path / "one")


def test_stages_of_ones_own_stay(tmp_path: Path) -> None:
    done, said = run(replace(run_config("ect", tmp_path), objective=ECTConfig(curriculum=WIDE)), tmp_path / "run")
    assert done
    assert _stages(tmp_path / "run") == 3
    assert "of 3 stages" not in said


def test_a_method_leaves_them_open() -> None:
    assert "curriculum" in recipe("ect", "fashion-mnist").auto
    assert recipe("fashion/ect").auto == ()
