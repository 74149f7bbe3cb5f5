"""A student that is told the guidance weight: what it starts from, what lies on disk, how it goes on and is sampled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import IMAGES, NETWORK, make_teacher, run, run_config

from unistep.core.condition import LabelField, ScalarField
from unistep.data import DataConfig, Dataset, prepare
from unistep.data.weighted import WeightedDataset
from unistep.generation.model_config import ModelConfig
from unistep.hub import load, save
from unistep.objectives import CDConfig, ECTConfig
from unistep.objectives.fd import FDConfig
from unistep.serialization import read_json
from unistep.training import rehearsal
from unistep.training.build import build_student, fit_model_to_objective, load_fitting
from unistep.training.ema import ConstantEMA
from unistep.training.resolve import resolve
from unistep.training.run_config import RunConfig

LAST = ConstantEMA(half_life=0.001)
TOLD = CDConfig(guidance_range=(1.0, 4.0), guidance=2.0)
LABELLED = ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES, fields={"label": LabelField(size=3)})


def told_run(folder: Path, **changes: Any) -> RunConfig:
    return replace(run_config("cd-told", folder), **{"objective": TOLD, "max_steps": 2, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps; its data and its teacher lie beside it."""
    folder = tmp_path_factory.mktemp("told")
    assert run(told_run(folder), folder / "run")[0]
    return folder


def test_the_field_lies_beside_the_weights_and_the_sampler_takes_it(trained: Path) -> None:
    field = ScalarField(low=1.0, high=4.0, default=2.0)
    for config in (
        read_json(ModelConfig, trained / "run" / "model" / "config.json"),
        read_json(RunConfig, trained / "run" / "config.json").model,
    ):
        assert set(config.fields) == {"label", "guidance"}
        assert config.fields["guidance"] == field
        assert config.network.scalars == {"guidance": 4.0}
    assert read_json(RunConfig, trained / "run" / "config.json").objective == TOLD
    g = load(str(trained / "run"))
    assert g.guidance == 2.0
    usual = g.sample(2, label=1)
    assert torch.equal(usual, g.sample(2, label=1, guidance=2.0))
    assert not torch.equal(usual, g.sample(2, label=1, guidance=4.0))
    with pytest.raises(ValueError, match="guidance must be a number from 1 to 4, got '5'"):
        g.sample(2, guidance=5)


def test_a_run_goes_on_and_refuses_another_range(trained: Path) -> None:
    wider = replace(TOLD, guidance_range=(1.0, 5.0))
    for objective in (wider, replace(TOLD, guidance_range=None, guidance=2.0)):
        with pytest.raises(ValueError, match=r"cannot go on with changes \(objective.guidance_range"):
            run(told_run(trained, objective=objective), trained / "run", resume=True)
    done, text = run(told_run(trained), trained / "run", resume=True)
    assert done
    assert "going on after step 2" in text


def test_a_student_begins_as_its_teacher_whatever_the_weight(tmp_path: Path) -> None:
    make_teacher(tmp_path / "teacher")
    model = fit_model_to_objective(LABELLED, TOLD)
    student = build_student(told_run(tmp_path), model, load_fitting(str(tmp_path / "teacher"), model, "teacher"))
    plain = build_student(told_run(tmp_path), LABELLED, load_fitting(str(tmp_path / "teacher"), LABELLED, "teacher"))
    student.eval(), plain.eval()
    x, t, label = torch.randn(3, 1, 8, 8), torch.ones(3), torch.tensor([0, 2, -1])
    wanted = plain(x, t, None, {"label": label})
    assert wanted.std() > 0.1
    for weight in (1.0, 2.5, torch.nan):
        told = {"label": label, "guidance": torch.full((3,), weight)}
        torch.testing.assert_close(student(x, t, None, told), wanted)


def test_a_told_student_begins_from_another_of_the_same_range_only(trained: Path, tmp_path: Path) -> None:
    name = str(trained / "run")
    model = fit_model_to_objective(LABELLED, TOLD)
    start = load_fitting(name, model, "init")
    assert start is not None
    student = build_student(told_run(tmp_path), model, start)
    for key, value in start.map.net.state_dict().items():
        assert torch.equal(student.net.state_dict()[key], value), key
    assert start.map.net.get_parameter("scalars.guidance.last.weight").abs().max() > 0  # it has begun to listen
    other = fit_model_to_objective(LABELLED, replace(TOLD, guidance_range=(1.0, 8.0)))
    for wrong in (other, LABELLED):
        with pytest.raises(ValueError, match=r"the init .* does not fit .* scalars"):
            load_fitting(name, wrong, "init")


def test_a_number_that_the_start_lacks_begins_without_effect_and_one_that_it_has_is_needed(tmp_path: Path) -> None:
    name = str(make_teacher(tmp_path / "teacher"))
    fields = {**LABELLED.fields, "velocity": ScalarField(low=0.0, high=127.0)}
    model = replace(LABELLED, network=replace(NETWORK, scalars={"velocity": 127.0}), fields=fields)
    student = build_student(told_run(tmp_path), model, load_fitting(name, model, "teacher")).eval()
    x, t, label = torch.randn(3, 1, 8, 8), torch.ones(3), torch.tensor([0, 2, -1])
    quiet, loud = (student(x, t, None, {"label": label, "velocity": torch.full((3,), v)}) for v in (1.0, 127.0))
    torch.testing.assert_close(loud, quiet)
    save(replace(model, kind="denoiser"), student.net.state_dict(), name, card="A teacher with velocities.")
    with pytest.raises(ValueError, match="scalars"):
        load_fitting(name, LABELLED, "teacher")


def test_a_model_that_goes_on_with_other_data_keeps_its_weight(trained: Path, tmp_path: Path) -> None:
    """Each item gets one, so that no weight asks for what the model made before."""
    given = {"init": str(trained / "run"), "teacher": None, "start_report": 0, "max_steps": 2, "emas": (LAST,)}
    config = replace(run_config("ect", tmp_path, **given), objective=ECTConfig(target="data"))
    assert run(config, tmp_path / "run")[0]
    g = load(str(tmp_path / "run"))
    assert g.config.fields["guidance"] == ScalarField(low=1.0, high=4.0, default=2.0)
    name = "scalars.guidance.last.weight"
    before = load(str(trained / "run")).map.net.get_parameter(name)
    assert not torch.equal(g.map.net.get_parameter(name), before)


@pytest.mark.parametrize("here", [True, False], ids=["old data", "samples in its place"])
def test_every_new_item_has_a_weight_also_where_old_ones_are_rehearsed(
    here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples that stand for the old data say what weight they were made with; that is no weight of the new data."""
    assert run(told_run(tmp_path), tmp_path / "run")[0]
    monkeypatch.setattr(rehearsal, "REPLAYED", 16)
    if not here:
        monkeypatch.setattr("unistep.training.resolve.old_data", lambda start: None)
    given = {"init": str(tmp_path / "run"), "teacher": None, "max_steps": 2, "rehearsal": 0.5}
    config = replace(run_config("ect", tmp_path, **given), objective=ECTConfig(target="data"))
    data = resolve(config, prepare(config.data, progress=False)).parts.train_step.loader.dataset
    weights = data.batch(range(len(data)), range(len(data)))[1]["guidance"].tensors["value"]
    new, old = weights[:40], weights[40:]
    assert 1 <= new.min() < new.max() <= 4
    assert 1 <= old.min() <= old.max() <= 4
    assert (old == 2.0).all() != here


def test_post_training_keeps_the_default_weight() -> None:
    model = fit_model_to_objective(LABELLED, TOLD)
    for high, default in ((4.0, 2.0), (3.0, 1.0)):
        fitted = fit_model_to_objective(model, FDConfig(guidance_range=(1.0, high)))
        assert fitted.fields["guidance"] == ScalarField(low=1.0, high=high, default=default)


def test_weights_of_items_are_drawn_by_their_seeds() -> None:
    data = WeightedDataset(Dataset.from_tensors(torch.zeros(9, 1, 4, 4)), ScalarField(low=1.0, high=4.0, default=2.0))
    plain = data.conditions(range(3))["guidance"].tensors["value"]
    assert plain.tolist() == [2.0] * 3
    drawn = data.batch([1] * 200, range(200))[1]["guidance"].tensors["value"]
    assert 1 <= drawn.min() < 1.2
    assert 3.8 < drawn.max() <= 4
    # Of 200 even draws the mean has a standard deviation of 3 / sqrt(12 * 200).
    assert abs(float(drawn.mean()) - 2.5) < 4 * 3 / (12 * 200) ** 0.5
    assert data.batch([5, 6], [7, 3])[1]["guidance"].tensors["value"].tolist() == drawn[[7, 3]].tolist()


def test_data_without_labels_has_nothing_to_guide(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "plain.npz", arr_0=pixels)
    teacher = ModelConfig(kind="denoiser", network=replace(NETWORK, num_classes=0), modality=IMAGES)
    save(teacher, teacher.build().net.state_dict(), tmp_path / "teacher", "")
    config = told_run(tmp_path, data=DataConfig(source=f"npz:{tmp_path / 'plain.npz'}"))
    with pytest.raises(ValueError, match="guidance_range strengthens a condition, and this data has none"):
        run(config, tmp_path / "run")


def test_a_student_with_functions_of_place_begins_as_a_teacher_without(tmp_path: Path) -> None:
    placed = replace(LABELLED, network=replace(NETWORK, position_sizes=(8, 8)))
    more = replace(placed, network=replace(placed.network, basis_functions=32))
    name = str(tmp_path / "teacher")
    known = replace(placed, kind="denoiser")
    save(known, known.build().net.state_dict(), name, card="A teacher.")
    student = build_student(told_run(tmp_path), more, load_fitting(name, more, "teacher")).eval()
    plain = build_student(told_run(tmp_path), placed, load_fitting(name, placed, "teacher")).eval()
    x, t, told = torch.randn(3, 1, 8, 8), torch.ones(3), {"label": torch.tensor([0, 2, -1])}
    torch.testing.assert_close(student(x, t, None, told), plain(x, t, None, told))
    save(
        replace(known, network=more.network), student.net.state_dict(), name, card="A teacher with functions of place."
    )
    with pytest.raises(ValueError, match="it has basis_functions 32 instead of 0"):
        load_fitting(name, placed, "teacher")
