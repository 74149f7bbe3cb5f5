"""A run's folder: mistakes are one clear line before anything is trained, and full disks lose nothing."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from rich.console import Console
from safetensors.torch import load_file, save_file
from test_resume import start
from tiny import DEEP, assert_same, checkpoint, make_data, metrics, run, run_config
from worker import do

from unistep import files
from unistep.data import data_config, prepare
from unistep.hub import load
from unistep.training import loop, run_files
from unistep.training.ema import PowerEMA
from unistep.training.health import TrainingStoppedError
from unistep.training.loop import Progress
from unistep.training.optim import AdamConfig
from unistep.training.parallel import World
from unistep.training.plan import describe
from unistep.training.resolved import ResolvedRun
from unistep.training.run import train
from unistep.training.run_directory import differences


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run of 6 steps that stopped after 2."""
    job = {"objective": "denoising", "out": tmp_path / "run", "stop_at": 2, "changes": {"max_steps": 6}}
    assert do(job, tmp_path)[0] is False
    return tmp_path


def config(folder: Path, **changes):
    return run_config("denoising", folder, max_steps=6, **changes)


def test_a_run_is_not_overwritten(begun: Path) -> None:
    before = sorted(path for path in (begun / "run").rglob("*") if path.name != ".lock")
    with pytest.raises(ValueError, match=r"already holds a run of 'tiny-denoising'; add --resume to go on, or give"):
        run(config(begun), begun / "run")
    assert sorted(path for path in (begun / "run").rglob("*") if path.name != ".lock") == before


def test_another_run_does_not_go_on(begun: Path) -> None:
    c, out = config(begun), begun / "run"
    dropped = replace(c.model, network=replace(c.model.network, dropout=0.5))
    wider = replace(c.model, network=replace(c.model.network, widths=(32,)))
    for changed, message in (
        (run_config("ct", begun, max_steps=6), r"recipe: 'tiny-denoising' -> 'tiny-ct'"),
        (replace(c, batch_size=16), r"batch_size: 8 -> 16"),
        (replace(c, optimizer=AdamConfig()), r"optimizer.type: 'MuonConfig' -> 'AdamConfig'"),
        (replace(c, emas=(PowerEMA(sigma_rel=0.2),)), r"emas"),
        (replace(c, seed=1), r"seed: 0 -> 1"),
        (replace(c, model=dropped), r"model.network.dropout: 0.2 -> 0.5"),
        (replace(c, model=wider), r"model.network.widths"),
    ):
        with pytest.raises(ValueError, match=f"holds another run, which cannot go on with changes .*{message}"):
            run(changed, out, resume=True)
    done, _ = run(c, out, resume=True)
    assert done


def test_changed_data_does_not_go_on_unnoticed(begun: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 1), np.uint8)
    np.savez(begun / "data.npz", arr_0=pixels, arr_1=np.arange(40) % 3)
    with pytest.raises(ValueError, match=r"data of npz:.*data.npz has changed since the run in .* began; start"):
        run(config(begun), begun / "run", resume=True)


def test_another_teacher_does_not_go_on_unnoticed(tmp_path: Path) -> None:
    settings = {"out": tmp_path / "run", "stop_at": 2, "changes": {"checkpoint_every": "1"}}
    assert do({"objective": "ect", **settings}, tmp_path)[0] is False
    weights = tmp_path / "teacher" / "model.safetensors"
    changed = {name: value + 0.01 * value.std() for name, value in load_file(weights).items()}
    save_file(changed, weights)
    with pytest.raises(ValueError, match=r"the teacher .*teacher has changed since the run in .* began; start"):
        run(run_config("ect", tmp_path, checkpoint_every="1"), tmp_path / "run", resume=True)


def test_a_budget_of_images_is_resolved_once(tmp_path: Path) -> None:
    settings = {"max_steps": None, "budget": "0.02k", "batch_size": 4, "checkpoint_every": "1000"}
    job = {"objective": "denoising", "out": tmp_path / "run", "stop_at": 1, "changes": settings}
    assert do(job, tmp_path)[0] is False
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["budget"] == "0.02k"
    assert stored["max_steps"] == 5
    _, text = run(run_config("denoising", tmp_path, **settings), tmp_path / "run", resume=True)
    assert "4 of 5 left, each of 4 images: 16 images" in text
    assert checkpoint(tmp_path / "run")[0] == 5


def test_a_batch_that_is_left_open_can_be_shared(tmp_path: Path) -> None:
    open_batch = run_config("denoising", tmp_path, auto=("batch_size",), accumulation=3, max_steps=1)
    assert run(open_batch, tmp_path / "run")[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch_size"] == 66


def test_a_run_of_another_length_keeps_its_budget(begun: Path) -> None:
    c, out = config(begun, budget="1h"), begun / "run"
    for name in ("asked.json", "config.json"):
        stored = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps({**stored, "budget": "1h"}))
    assert run(replace(c, max_steps=4, budget="30m"), out, resume=True)[0]  # a recipe's own, nobody typed it
    assert json.loads((out / "config.json").read_text())["budget"] == "1h"
    assert run(replace(c, max_steps=None), out, resume=True)[0]  # as it was begun


def test_a_run_may_be_given_another_length(begun: Path) -> None:
    c, out = config(begun), begun / "run"  # two of six steps are done
    with pytest.raises(ValueError, match=r"has done 2 steps already; give at least as many with --max-steps"):
        run(replace(c, max_steps=1), out, resume=True)
    assert json.loads((out / "config.json").read_text())["max_steps"] == 6
    for length in (4, 5):  # shorter than it was begun for, and longer than it then was
        done, text = run(replace(c, max_steps=length), out, resume=True)
        assert done
        assert f" of {length} left" in text
        assert checkpoint(out)[0] == json.loads((out / "config.json").read_text())["max_steps"] == length


def test_the_plan_is_of_what_is_left(begun: Path) -> None:
    _, text = run(config(begun), begun / "run", resume=True)
    assert "4 of 6 left, each of 8 images: 32 images, 0.8 passes" in text
    assert "the checkpoint of step 2" in text
    _, text = run(config(begun), begun / "run", resume=True)
    assert "0 of 6 left, each of 8 images: 0 images" in text
    _, text = run(config(begun), begun / "another")
    assert "6 of 8 images: 48 images, 1.2 passes" in text
    assert "left, each" not in text
    assert "fresh weights" in text


@pytest.mark.parametrize(("done", "expected"), [(0, "0:09:00"), (4200, "0:02:00"), (5400, "0:00:00")])
def test_the_expected_time_is_that_of_what_is_left(begun: Path, done: int, expected: str) -> None:
    train_step = SimpleNamespace(world=World(), trainable=[], precision="fp32", options=SimpleNamespace(batch_size=8))
    dataset = prepare(config(begun).data, progress=False)
    long = ResolvedRun(config=config(begun), data=dataset, steps=5400, seconds=None, speed=80.0, parts=None)  # type: ignore[arg-type]
    rows = describe(long, train_step, begun, done)  # type: ignore[arg-type]
    assert rows["expected time"] == expected
    assert rows["steps"].startswith(f"{5400 - done:,} of 5,400 left" if done else "5,400 of 8 images")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "RunConfig needs a mapping"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"recip": "x"}', "no key 'recip'; did you mean 'recipe'"),
        ('{"recipe": "x"}', "missing"),
    ],
)
def test_a_corrupt_config_is_named(begun: Path, content: str, message: str) -> None:
    for name in ("config.json", "asked.json"):
        (begun / "run" / name).write_text(content)
        with pytest.raises(ValueError, match=rf"run/{name}: .*{message}"):
            run(config(begun), begun / "run", resume=True)


def test_checkpoints_without_a_config_are_left_alone(begun: Path) -> None:
    (begun / "run" / "config.json").unlink()
    (begun / "run" / "asked.json").unlink()
    with pytest.raises(ValueError, match=r"has checkpoints but no config.json; give another folder with --out"):
        run(config(begun), begun / "run", resume=True)
    assert checkpoint(begun / "run")[0] == 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    make_data(tmp_path / "data.npz")
    (tmp_path / "file").write_text("not a folder")
    for out, message in (
        (tmp_path / "file", r"file is a file; give a folder with --out"),
        (tmp_path / "file" / "run", r"cannot write .*/file/run: Not a directory; give another folder with --out"),
        (Path("/proc/unistep"), r"cannot write /proc/unistep: .*; give another folder with --out"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            run(config(tmp_path), out)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_folder_without_the_right_to_write(tmp_path: Path, monkeypatch) -> None:
    """Also for a superuser, whom no mode of a folder stops."""

    def refuse(path: Path, text: str) -> None:
        raise ValueError(f"cannot write {path}: Permission denied")

    monkeypatch.setattr("unistep.training.run_directory.write_text", refuse)
    with pytest.raises(ValueError, match=r"cannot write .*: Permission denied; give another folder with --out"):
        run(config(tmp_path), tmp_path / "run")


def test_two_processes_do_not_train_in_one_folder(begun: Path) -> None:
    with (
        FileLock(begun / "run" / ".lock"),
        pytest.raises(ValueError, match=r"another process is training in .*run; wait"),
    ):
        run(config(begun), begun / "run", resume=True)
    done, _ = run(config(begun), begun / "run", resume=True)
    assert done


def test_leftovers_of_killed_processes_are_cleared(begun: Path) -> None:
    out = begun / "run"
    half = out / "checkpoints" / ".00000003.4194304.tmp"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    (out / ".model.4194304.old.tmp").mkdir()
    (out / ".config.json.4194304.tmp.json").write_text("half")
    run(config(begun), out, resume=True)
    assert [path.name for path in out.rglob(".*")] == [".lock"]


def test_a_missing_teacher_or_one_that_does_not_fit(tmp_path: Path) -> None:
    c = run_config("cd", tmp_path)
    with pytest.raises(ValueError, match="there is no model 'nowhere'"):
        run(replace(c, teacher="nowhere"), tmp_path / "a")
    wider = replace(c.model, network=replace(c.model.network, widths=(32,)))
    with pytest.raises(
        ValueError, match=r"does not fit this data and network: it has widths \(8,\) instead of \(32,\)"
    ):
        run(replace(c, model=wider), tmp_path / "c")
    assert not [out for out in "ac" if (tmp_path / out).exists()]  # nothing half-begun is left


def test_wrong_kinds_and_sizes_are_refused_before_training(tmp_path: Path) -> None:
    c = run_config("denoising", tmp_path, network=DEEP)
    with pytest.raises(ValueError, match="DenoisingConfig trains a model of kind 'denoiser'"):
        run(replace(c, model=replace(c.model, kind="consistency")), tmp_path / "a")
    with pytest.raises(ValueError, match="ECTConfig trains a model of kind 'consistency'"):
        run(replace(run_config("ect", tmp_path), model=c.model), tmp_path / "b")
    blind = replace(run_config("shortcut", tmp_path).model, network=c.model.network)
    with pytest.raises(ValueError, match=r"at which a jump ends; set --model\.network\.second-time"):
        run(replace(run_config("shortcut", tmp_path), model=blind), tmp_path / "e")
    with pytest.raises(ValueError, match="batch_size 8 must be a multiple of 1 processes times 3 accumulation"):
        run(replace(c, accumulation=3), tmp_path / "c")
    with pytest.raises(ValueError, match="signals of shape 10x10 do not fit this network, which needs multiples of 4;"):
        run(replace(c, data=data_config(c.data.source, size=10)), tmp_path / "d")


def test_a_full_disk_loses_nothing_and_training_goes_on(tmp_path: Path) -> None:
    """The system itself refuses to write large files for a while, in a process of its own."""
    changes = {"max_steps": 8, "checkpoint_every": "1", "sample_every": "3"}
    process = start("denoising", tmp_path, "run", changes=changes, deep=True, limit=20_000, limit_steps=[3, 6])
    process.join()
    assert process.exitcode == 0
    text = (tmp_path / "run.txt").read_text()
    for step in (3, 4, 5):
        assert f"checkpoint of step {step} not written: " in text
    assert "that of step 2 is whole; training goes on" in text
    assert "checkpoint of step 6 not written" not in text
    done, _ = run(replace(config(tmp_path, network=DEEP), max_steps=8), tmp_path / "whole")
    assert done
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert len(metrics(tmp_path / "run")) == 8


def fill(monkeypatch, owner: object, name: str, when) -> None:
    """Let a function raise what a full disk does, where ``when(*args)`` says so."""
    call = getattr(owner, name)

    def full(*args, **options):
        if when(*args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*args, **options)

    monkeypatch.setattr(owner, name, full)


def test_a_disk_that_is_full_at_the_end_stops_with_one_line(tmp_path: Path, monkeypatch) -> None:
    disk = {"full": True}
    fill(
        monkeypatch,
        run_files,
        "save_checkpoint",
        lambda snapshot, folder, progress: disk["full"] and progress["step"] > 3,
    )
    c, out = config(tmp_path, checkpoint_every="1"), tmp_path / "run"
    message = r"checkpoint of step 6 not written: .*No space left on device; that of step 3 is whole. Make room"
    with pytest.raises(TrainingStoppedError, match=message):
        run(c, out)
    assert checkpoint(out)[0] == 3
    provenance = load(out).config.provenance
    assert (provenance["steps"], provenance["items"]) == ("3", str(3 * c.batch_size))
    disk["full"] = False
    done, text = run(c, out, resume=True)
    assert done
    assert "going on after step 3" in text
    assert checkpoint(out)[0] == 6


def test_a_disk_without_room_for_the_model_keeps_the_checkpoint(tmp_path: Path, monkeypatch) -> None:
    disk = {"full": True}

    fill(monkeypatch, run_files, "save", lambda *args: disk["full"])
    with pytest.raises(
        TrainingStoppedError, match=r"the checkpoint of step 6 is whole, its model is not written: .*No space"
    ):
        run(config(tmp_path), tmp_path / "run")
    assert checkpoint(tmp_path / "run")[0] == 6
    disk["full"] = False
    done, _ = run(config(tmp_path), tmp_path / "run", resume=True)
    assert done
    weights = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert len(weights) == len(load(tmp_path / "run").map.net.state_dict())


def test_a_sync_that_fails_is_a_full_disk_too(tmp_path: Path, monkeypatch) -> None:
    fill(monkeypatch, files, "sync", lambda path: path.parent.name.startswith(".00000002."))
    done, text = run(config(tmp_path, checkpoint_every="2"), tmp_path / "run")
    assert done
    assert "checkpoint of step 2 not written: [Errno 28] No space left on device" in text
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_samples_that_cannot_be_written_stop_nothing(tmp_path: Path, monkeypatch) -> None:
    fill(monkeypatch, type(config(tmp_path).model.modality), "save", lambda *args: True)
    done, text = run(config(tmp_path, sample_every="3"), tmp_path / "run")
    assert done
    assert "samples of step 3 not written: [Errno 28] No space left on device; training goes on" in text


def test_lines_of_the_log_wait_for_room(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    write, calls = os.write, {"count": 0}

    def scarce(handle: int, content: bytes) -> int:
        if b'"loss"' not in content and not calls["count"]:
            return write(handle, content)
        calls["count"] += 1
        if calls["count"] == 2:
            return write(handle, content[:10])  # a part of the line still fits
        if calls["count"] in (3, 4):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, content)

    monkeypatch.setattr(os, "write", scarce)
    done, text = run(config(tmp_path), tmp_path / "run")
    assert done
    assert "the numbers of step 2 are not on disk yet: [Errno 28]" in text
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_files_get_the_rights_that_others_have(begun: Path) -> None:
    modes = {path.stat().st_mode for path in (begun / "run" / "model").iterdir()}
    assert len(modes) == 1


def test_differences_are_named_by_their_place() -> None:
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}) == ["a.b: 1 -> 3"]
    assert differences({"a": 1}, {}) == ["a: 1 -> None"]
    assert differences([1], [1]) == []


def test_training_works_in_a_thread(tmp_path: Path) -> None:
    """Where no signal can be handled, as in a notebook's worker."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        done, _ = pool.submit(run, replace(config(tmp_path), max_steps=1), tmp_path / "run").result()
    assert done
    assert torch.is_grad_enabled()


def test_a_callback_sees_each_stage_and_cancels(tmp_path: Path) -> None:
    """From Python: paths as text, both stages, and an event that stops; nothing but the folder is needed to go on."""
    seen: list[Progress] = []
    stop = threading.Event()

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage == "student" and progress.step == 1:
            stop.set()

    c = replace(run_config("ect", tmp_path), teacher=None, max_steps=6, checkpoint_every="100")
    out = str(tmp_path / "run")
    settings = {"device": "cpu", "console": Console(quiet=True)}
    assert not train(c, out, callback=watch, cancel=stop, **settings)
    stages = [*(("teacher", step, 4) for step in (1, 2, 3, 4)), ("student", 1, 2)]
    assert [(p.stage, p.step, p.total) for p in seen] == stages
    assert train(None, out, resume=True, cancel=lambda: False, **settings)
    assert checkpoint(tmp_path / "run")[0] == 2
    with pytest.raises(ValueError, match=r"there is no run in .*nowhere to go on with; give a configuration"):
        train(None, str(tmp_path / "nowhere"), resume=True, **settings)
