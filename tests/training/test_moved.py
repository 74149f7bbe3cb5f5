"""Runs whose folder or data was moved, or is named by another path, go on as if nothing had happened."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file
from tiny import assert_same, checkpoint, make_teacher, run, run_config, steady
from worker import stop_after

from unistep.data import DataConfig, data_config, prepare
from unistep.training import resolve as resolve_module
from unistep.training.loop import Loop
from unistep.training.run import train
from unistep.training.run_config import RunConfig


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch) -> None:
    monkeypatch.setattr(resolve_module, "time_steps", steady(100))


def staged(config: RunConfig, out: Path, **options) -> bool:
    return train(config, out, device="cpu", console=Console(file=io.StringIO()), **options)


def stopped(config: RunConfig, out: Path, step: int, monkeypatch) -> Path:
    """A run of one stage or two whose part under way was asked to stop at ``step``."""
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", Loop._one_step)  # put back at the end
        stop_after(step)
        assert not staged(config, out)
    return out


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """Three steps of a teacher and seven of its student, in which :func:`stopped` finds the fourth."""
    return replace(run_config("ect", tmp_path), teacher=None, max_steps=10, teacher_share=0.3)


def moved(source: DataConfig, folder: Path) -> DataConfig:
    """The same data in another folder, at another time."""
    folder.mkdir()
    old = Path(source.source.partition(":")[2])
    shutil.copy(old, folder)  # not its time of change
    old.unlink()
    return replace(source, source=f"npz:{folder / old.name}")


@pytest.mark.parametrize("written_by", ["this version", "an earlier version"])
def test_a_run_with_a_teacher_of_its_own_goes_on_elsewhere(
    written_by: str, config: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert staged(config, whole)
    stopped(config, out, 4, monkeypatch)
    assert checkpoint(out)[0] == 4
    stored = json.loads((out / "config.json").read_text())
    assert stored["teacher"] == "run:teacher/model"
    if written_by == "an earlier version":
        (out / "config.json").write_text(json.dumps({**stored, "teacher": str(out / "teacher" / "model")}))
    out.rename(tmp_path / "elsewhere")
    data = moved(config.data, tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    assert staged(replace(config, data=data), Path("elsewhere"), resume=True)  # and named by a relative path
    assert_same(tmp_path / "elsewhere", whole)
    stored = json.loads((tmp_path / "elsewhere" / "config.json").read_text())
    assert stored["teacher"] == "run:teacher/model"
    assert stored["data"]["source"] == data.source


def test_a_copy_does_not_learn_from_the_teacher_of_the_original(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    out = stopped(config, tmp_path / "run", 4, monkeypatch)
    stored = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**stored, "teacher": str(out / "teacher" / "model")}))
    shutil.copytree(out, tmp_path / "copy")
    weights = tmp_path / "copy" / "teacher" / "model" / "model.safetensors"
    save_file({name: value + 0.01 * value.std() for name, value in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match=r"the teacher .*copy/teacher/model has changed since the run in .*copy began"):
        staged(config, tmp_path / "copy", resume=True)
    assert staged(config, out, resume=True)


def test_its_own_teacher_may_be_named(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    out = stopped(config, tmp_path / "run", 4, monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert staged(replace(config, teacher="run/teacher/model", max_steps=7), out, resume=True)
    assert json.loads((out / "config.json").read_text())["teacher"] == "run:teacher/model"


def test_another_teacher_of_that_name_is_not_its_own(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    named = replace(config, teacher=str(make_teacher(tmp_path / "other" / "teacher" / "model")), max_steps=7)
    out = stopped(named, tmp_path / "run", 4, monkeypatch)
    assert json.loads((out / "config.json").read_text())["teacher"] == named.teacher
    assert staged(named, out, resume=True)


def test_a_teacher_under_way_goes_on_elsewhere(config: RunConfig, tmp_path: Path, monkeypatch) -> None:
    stopped(config, tmp_path / "run", 2, monkeypatch).rename(tmp_path / "elsewhere")
    data = moved(config.data, tmp_path / "pictures")
    assert staged(replace(config, data=data), tmp_path / "elsewhere", resume=True)
    assert checkpoint(tmp_path / "elsewhere" / "teacher")[0] == 3
    assert checkpoint(tmp_path / "elsewhere")[0] == 7


def test_other_data_does_not_go_on(tmp_path: Path, monkeypatch) -> None:
    config = run_config("denoising", tmp_path)
    out = stopped(config, tmp_path / "run", 2, monkeypatch)
    before = (out / "config.json").read_text()
    np.savez(tmp_path / "other.npz", arr_0=np.zeros((40, 8, 8, 1), np.uint8), arr_1=np.arange(40) % 3)
    other = replace(config.data, source=f"npz:{tmp_path / 'other.npz'}")
    for data, message in (
        (other, r"run holds another run, on npz:.*data.npz: npz:.*other.npz is other data; give the same data with"),
        (data_config(other.source, size=16), r"cannot go on with changes \(data.source: .*; data.options"),
        (replace(config.data, source="fashion-mnist"), r"cannot go on with changes \(data.source: .* -> 'fashion-mn"),
        (replace(config.data, source="npz:nowhere.npz"), r"nowhere.npz does not exist"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            run(replace(config, data=data), out, resume=True)
        assert "\n" not in str(caught.value)
        assert (out / "config.json").read_text() == before
    assert run(config, out, resume=True)[0]


def test_data_of_a_run_without_a_checkpoint_is_known_by_its_path(tmp_path: Path, monkeypatch) -> None:
    config = run_config("denoising", tmp_path)
    out = stopped(config, tmp_path / "run", 2, monkeypatch)
    shutil.rmtree(out / "checkpoints")
    shutil.copy(tmp_path / "data.npz", tmp_path / "copy.npz")
    data = replace(config.data, source=f"npz:{tmp_path / 'copy.npz'}")
    with pytest.raises(ValueError, match=r"no checkpoint that tells whether npz:.*copy.npz is the same data; give the"):
        run(replace(config, data=data), out, resume=True)
    monkeypatch.chdir(tmp_path)
    assert run(replace(config, data=replace(data, source="npz:data.npz")), out, resume=True)[0]


def test_data_of_a_student_without_a_checkpoint_is_that_of_its_teacher(
    config: RunConfig, tmp_path: Path, monkeypatch
) -> None:
    out = stopped(config, tmp_path / "run", 4, monkeypatch)
    shutil.rmtree(out / "checkpoints")
    data = moved(config.data, tmp_path / "pictures")
    assert staged(replace(config, data=data), out, resume=True)


def test_a_folder_of_pictures_may_be_moved(tmp_path: Path, monkeypatch) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(12):
        (tmp_path / "pictures" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / "abc"[i % 3] / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    config = run_config("denoising", tmp_path, data=data_config("folder:pictures", size=8))
    fingerprint = prepare(config.data, progress=False).fingerprint
    out = stopped(config, tmp_path / "run", 2, monkeypatch)
    shutil.copytree("pictures", "album")
    shutil.rmtree("pictures")
    data = replace(config.data, source=f"folder:{tmp_path / 'album'}")
    assert prepare(data, progress=False).fingerprint == fingerprint
    done, text = run(replace(config, data=data), out, resume=True)
    assert done
    assert "going on after step 2" in text
    (tmp_path / "album" / "a" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"the data of folder:.*album has changed since the run in"):
        run(replace(config, data=data), out, resume=True)
