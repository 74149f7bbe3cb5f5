"""A method that trains some jumps only says which, and the model is sampled there and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import METHODS, make_teacher, run, run_config

from unistep.evaluation.samplers import usual_settings
from unistep.generation.generator import Generator
from unistep.generation.grids import sampling_times
from unistep.hub import load
from unistep.objectives.pcm import phase_times
from unistep.training.build import fit_sampling_to_objective, load_fitting


@pytest.mark.parametrize("phases", [2, 3])
def test_a_model_of_phases_takes_one_step_for_each(phases: int, tmp_path: Path, monkeypatch) -> None:
    drawn: list[int | None] = []  # steps of the samples that are shown while it trains
    sample = Generator.sample
    monkeypatch.setattr(
        Generator, "sample", lambda g, *n, **given: drawn.append(given.get("steps")) or sample(g, *n, **given)
    )
    config = run_config("pcm", tmp_path, max_steps=2)
    objective = replace(config.objective, phases=phases, middle=2.0)
    config = replace(config, objective=objective)
    assert run(config, tmp_path / "run")[0]
    assert set(drawn) == {phases}
    g = load(tmp_path / "run")
    assert g.config.steps == phases
    assert g.times(phases).tolist() == pytest.approx(phase_times(objective, g.config.path))
    assert g.network_calls() == phases
    assert g.config.trained_steps == (phases,)
    with pytest.warns(UserWarning, match=f"was trained for samples of {phases} steps, and those of 4 are poor"):
        g.sample(1, steps=4)
    g.sample(1, times=(80.0, 20.0, 5.0, 1.0))  # which somebody chose
    assert run(replace(config, max_steps=3), tmp_path / "run", resume=True)[0]


def test_a_truncated_model_is_not_sampled_below_its_transition(tmp_path: Path) -> None:
    assert run(run_config("tcm", tmp_path, max_steps=2), tmp_path / "run")[0]
    g = load(tmp_path / "run")
    lowest = METHODS["tcm"].sigma_min_trained
    assert g.config.sigma_min_trained == lowest == 1.0
    for steps in (1, 2, 4, 8):
        ratios = g.config.path.ratio(g.times(steps).double())
        assert ratios.min() > lowest
    g.sample(1, times=[80.0, 1.5])
    with pytest.raises(ValueError, match="from 1 to 80, the range that the model was trained in"):
        g.sample(1, times=[80.0, 0.9])


def test_other_methods_are_sampled_as_they_were(tmp_path: Path) -> None:
    for name in ("ect", "meanflow", "denoising"):
        config = run_config(name, tmp_path)
        assert fit_sampling_to_objective(config.model, config.objective) == config.model


def test_a_model_is_sampled_on_the_times_that_post_training_trains(tmp_path: Path) -> None:
    config = run_config("fd", tmp_path, max_steps=2)
    config = replace(config, objective=replace(config.objective, times=(0.9,)))
    assert run(config, tmp_path / "run")[0]
    g = load(tmp_path / "run")
    assert g.times(2).tolist() == pytest.approx([80.0, 0.9])
    assert g.config.steps == 1
    again = replace(run_config("fd", tmp_path, max_steps=2), init=str(tmp_path / "run"))
    assert run(again, tmp_path / "again")[0]
    assert load(tmp_path / "again").times(2).tolist() == pytest.approx([80.0, 0.9])


def test_a_generator_that_drifts_makes_its_samples_in_one_step(tmp_path: Path) -> None:
    config = run_config("drifting", tmp_path)
    model = fit_sampling_to_objective(config.model, config.objective)
    assert model.trained_steps == (1,)
    drawn = Generator(model.fitted().build(), model.fitted(), "drifted")
    assert [setting.steps for setting in usual_settings(drawn)] == [1]
    drawn.sample(1)
    with pytest.warns(UserWarning, match="drifted was trained for samples of 1 step, and those of 2 are poor"):
        drawn.sample(1, steps=2)
    # Post-training goes on with what is trained, and a search for times makes them known.
    fd = replace(METHODS["fd"], times=(0.9,))  # type: ignore[type-var]
    assert fit_sampling_to_objective(model, fd).trained_steps == (1, 2)
    assert not replace(model, times={"4": (80.0, 3.0, 1.0, 0.5)}).untrained(4)


def test_shortcuts_are_sampled_by_jumps_of_the_lengths_that_are_trained(tmp_path: Path) -> None:
    config = run_config("shortcut", tmp_path)
    model = fit_sampling_to_objective(config.model, config.objective)
    assert model.trained_steps == (1, 2, 4, 8)
    for steps in model.trained_steps:
        t = sampling_times(model, steps).double()
        lengths = t - torch.cat([t[1:], torch.zeros(1)])
        assert lengths.tolist() == pytest.approx([model.path.t_max / steps] * steps)
    assert "trained for samples of 1, 2, 4, 8 steps" in model.untrained(3)


def test_a_teacher_of_another_deviation_is_refused(tmp_path: Path) -> None:
    make_teacher(tmp_path / "teacher")
    model = run_config("ect", tmp_path).model
    found = load(tmp_path / "teacher")
    model = replace(model, network=found.config.network, fields=found.config.fields)
    assert load_fitting(str(tmp_path / "teacher"), model, "teacher") is not None
    with pytest.raises(ValueError, match=r"knows data of standard deviation 0.5, and this model is to have 0.25"):
        load_fitting(str(tmp_path / "teacher"), replace(model, sigma_data=0.25), "teacher")


def test_a_model_of_jumps_to_the_data_alone_draws_all_noise_afresh(tmp_path: Path) -> None:
    config = run_config("imm", tmp_path)
    assert fit_sampling_to_objective(config.model, config.objective).gamma == 0
    alone = replace(config.objective, second_time="boundary")
    assert fit_sampling_to_objective(config.model, alone).gamma == 1
