"""Choices that do not go together are named in the plan and in the log, and a refused run leaves nothing behind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CLASSES, METHODS, NETWORK, make_teacher, run, run_config
from torch import nn

from unistep.core.condition import LabelField
from unistep.core.path import LinearFlow
from unistep.core.timesteps import ConstantLevels, DoublingCurriculum, RatioCurriculum, SqrtCurriculum
from unistep.hub import load
from unistep.nets.embedding import PositionalEmbedding
from unistep.nets.unet import UNetConfig
from unistep.objectives import CTConfig, ECTConfig, ICTConfig, SCMConfig
from unistep.recipes import reproductions
from unistep.training.log import MetricsLog, read_metrics
from unistep.training.preflight import STEEP, network_warnings, start_warnings, time_embedding_slope


class Timed(nn.Module):
    def __init__(self, features: PositionalEmbedding) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.zeros(1))

    def embed_time(self, t: torch.Tensor) -> torch.Tensor:
        return self.features(t)


@pytest.mark.parametrize("frequency", [1.0, 16.0, 100.0])
def test_the_rate_of_sines_and_cosines_is_their_mean_square_frequency(frequency: float) -> None:
    """Each pair turns at its frequency on a circle, at every time alike."""
    features = PositionalEmbedding(64, max_frequency=frequency)
    wanted = features.frequencies.square().mean().sqrt().item()
    assert time_embedding_slope(Timed(features)) == pytest.approx(wanted, rel=1e-5)


def test_a_network_without_an_embedding_of_time_says_nothing() -> None:
    assert time_embedding_slope(nn.Linear(2, 2)) == 0


def test_the_largest_frequency_is_an_option_and_ours_is_gentle() -> None:
    rates = []
    for frequency in (16.0, 2 * math.pi * 16):
        torch.manual_seed(0)
        net = UNetConfig(max_frequency=frequency, second_time=True).build()
        assert net.time[0].frequencies.max().item() == pytest.approx(frequency)
        assert net.second_time is not None
        assert net.second_time[0].frequencies.max().item() == pytest.approx(frequency)
        rates.append(time_embedding_slope(net))
    assert rates[0] < STEEP / 3
    assert rates[1] > STEEP


@pytest.mark.parametrize("frequency", [0.0625, -1.0, math.inf, math.nan])
def test_a_frequency_that_is_none_is_refused(frequency: float) -> None:
    with pytest.raises(ValueError, match=f"max_frequency must be finite and above 0.0625, got {frequency}"):
        UNetConfig(max_frequency=frequency)


def test_a_steep_embedding_is_warned_of_where_the_method_differentiates(tmp_path: Path) -> None:
    for name in METHODS:
        config = run_config(name, tmp_path, max_steps=100)
        tangent = name.startswith(("sct", "scd", "meanflow", "imf"))
        assert bool(network_warnings(config, 21.0)) == tangent, name
        assert not network_warnings(config, 19.0), name


def test_double_normalisation_is_asked_for_in_long_continuous_training(tmp_path: Path) -> None:
    config = run_config("sct", tmp_path, max_steps=10_000)
    assert not network_warnings(config, 5.0)
    long = replace(config, max_steps=20_000)
    (warning,) = network_warnings(long, 5.0)
    assert "20,000 steps" in warning
    assert "--model.network.double-norm" in warning
    normed = replace(config.model, network=replace(config.model.network, double_norm=True))
    assert not network_warnings(replace(long, model=normed), 5.0)


@pytest.mark.parametrize(
    ("objective", "settings", "least"),
    [
        (ECTConfig(curriculum=RatioCurriculum(stages=3)), 3, 150),
        (ECTConfig(curriculum=RatioCurriculum(q=4.0, stages=3)), 3, 489),
        (ICTConfig(curriculum=DoublingCurriculum(start=10, end=160)), 5, 500),
        (CTConfig(curriculum=SqrtCurriculum(start=2, end=50)), 50, 500),
    ],
)
def test_a_curriculum_that_is_too_fast_is_warned_of(objective: Any, settings: int, least: int, tmp_path: Path) -> None:
    config = replace(run_config("ect", tmp_path), objective=objective, max_steps=least)
    assert not config.objective.budget_warnings(config.max_steps)
    (warning,) = config.objective.budget_warnings(least - 1)
    assert f"{settings} settings for {least - 1:,} steps" in warning


@pytest.mark.parametrize("curriculum", [SqrtCurriculum(start=3, end=9), DoublingCurriculum(start=4, end=40)])
def test_the_settings_are_those_that_training_meets(curriculum: SqrtCurriculum | DoublingCurriculum) -> None:
    met = {curriculum.levels(step / 10_000) for step in range(10_001)}
    assert len(met) == curriculum.settings


def test_no_curriculum_and_a_single_stage_are_never_too_fast(tmp_path: Path) -> None:
    for objective in (
        CTConfig(curriculum=ConstantLevels()),
        ECTConfig(curriculum=RatioCurriculum(stages=1)),
        SCMConfig(warmup=0.0),
    ):
        assert not objective.budget_warnings(1)


def test_a_short_warmup_of_the_tangent_is_warned_of(tmp_path: Path) -> None:
    config = replace(run_config("sct", tmp_path), objective=SCMConfig(warmup=0.1))
    assert not config.objective.budget_warnings(1000)
    (warning,) = config.objective.budget_warnings(500)
    assert "warm-up takes 50 steps" in warning


@pytest.mark.parametrize("name", reproductions())
def test_no_recipe_is_warned_of_at_ten_images_a_second_and_core(name: str) -> None:
    """Their budgets, at the speed of two cores."""
    config = reproductions()[name]
    minutes = float(config.budget.removesuffix("m"))
    config = replace(config, max_steps=int(minutes * 60 * 40 / config.batch_size))
    torch.manual_seed(0)
    assert not network_warnings(config, time_embedding_slope(config.model.network.build()))


def test_warnings_stand_in_the_plan_and_in_the_log(tmp_path: Path) -> None:
    steep = replace(NETWORK, max_frequency=200.0, second_time=True)
    config = run_config("imf", tmp_path, max_steps=3)
    config = replace(config, model=replace(config.model, network=steep))
    done, text = run(config, tmp_path / "run")
    assert done
    assert text.count("its embedding of time is steep") == 1
    assert "\nwarning  " in text
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert ["its embedding of time is steep" in warning for warning in first["warnings"]] == [True]
    gentle = run_config("imf", tmp_path, max_steps=3)
    _, text = run(gentle, tmp_path / "gentle")
    assert "\nwarning" not in text
    assert "warnings" not in (tmp_path / "gentle" / "metrics.jsonl").read_text()


def test_several_warnings_are_several_rows(tmp_path: Path) -> None:
    config = run_config("sct", tmp_path, max_steps=2)
    steep = replace(NETWORK, max_frequency=200.0)
    config = replace(config, teacher=None, model=replace(config.model, network=steep))
    _, text = run(config, tmp_path / "run")
    assert "\nwarning    " in text
    assert "\nwarning 2  " in text
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(row["warnings"]) == 2


@pytest.mark.parametrize("there", [False, True])
def test_a_run_whose_objective_is_refused_leaves_the_place_as_it_was(there: bool, tmp_path: Path) -> None:
    config = run_config("cd", tmp_path)
    config = replace(config, model=replace(config.model, path=LinearFlow()))
    out = tmp_path / "new" / "runs" / "refused"
    if there:
        out.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"the teacher is on the path Variance.*, the student on LinearFlow"):
        run(config, out)
    assert out.exists() == there
    assert (tmp_path / "new").exists() == there
    assert not there or list(out.iterdir()) == []


def test_a_two_time_method_needs_a_network_of_two_times(tmp_path: Path) -> None:
    config = run_config("imf", tmp_path)
    one_time = replace(config.model, network=replace(config.model.network, second_time=False))
    with pytest.raises(ValueError, match=r"set --model\.network\.second-time"):
        run(replace(config, model=one_time), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_was_told_other_classes_is_warned_of(tmp_path: Path) -> None:
    make_teacher(tmp_path / "teacher")
    known, model = load(tmp_path / "teacher"), run_config("ect", tmp_path).model
    assert start_warnings(replace(model, fields=known.config.fields), known, "teacher") == []
    assert start_warnings(model, None, "init") == []
    named = {
        "label": LabelField(size=CLASSES, names=("cat", "dog", "an animal with a very long name, longer than a line"))
    }
    (warning,) = start_warnings(replace(model, fields=named), known, "teacher")
    assert "has the condition label with 0, 1, 2, and this data has 0 cat, 1 dog, 2 an animal" in warning
    assert warning.endswith("...")


def test_only_the_first_line_of_a_run_has_its_warnings(tmp_path: Path) -> None:
    for start in (0, 1):
        log = MetricsLog(tmp_path, start, ["too fast"])
        log.write(start + 1, {"loss": 1.0})
        log.close()
    assert [row.get("warnings") for row in read_metrics(tmp_path)] == [["too fast"], None]
