"""Two processes compute what one does: gradients, weights, samples, checkpoints; with DDP and with FSDP2."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import live
import pytest
import torch
import worker
from safetensors.torch import load_file
from shared import shared
from tiny import OBJECTIVES, assert_same, checkpoint, make_data, make_teacher, metrics, run_config
from torch import Tensor
from worker import do

import forks
from tolerance import rounding
from unistep.data import prepare
from unistep.hub import load
from unistep.training import resolve as resolve_module
from unistep.training.parallel import World, start_world
from unistep.training.resolved import Session

pytestmark = pytest.mark.timeout(900)  # the first of these tests waits for both processes

PLAIN = {"max_steps": 3, "dropout": 0.0, "checkpoint_every": "100"}
KINDS: dict[str, dict[str, Any]] = {
    "ddp": {"parallel": "ddp"},
    "fsdp": {"parallel": "fsdp"},
    "ddp-accumulated": {"parallel": "ddp", "accumulation": 2},
    # Samples and checkpoints in between exchange and gather the shards, and must leave no trace.
    "fsdp-accumulated": {"parallel": "fsdp", "accumulation": 2, "checkpoint_every": "2", "sample_every": "2"},
}
CASES = [("denoising", "ddp"), ("ct", "ddp"), ("ect", "ddp-accumulated"), ("cd", "fsdp")]
CASES += [(objective, "fsdp-accumulated") for objective in OBJECTIVES]
A_TRACE = 0.02 * 3 * 3e-3
"""Two per cent of what three steps at Muon's peak rate can move a weight: the optimizers divide by the size of the
gradient, and so enlarge its rounding, but a wrong gradient moves weights by the rate itself."""
STOPPED = {"ddp": ("ect", "muon"), "fsdp": ("cd", "muon"), "fsdp-adam": ("ct", "radam")}
"""Runs that are interrupted and resumed, with dropout: objective and optimizer."""


def launch(jobs: list[dict[str, Any]], folder: Path, processes: int = 2) -> dict[str, dict[str, Any]]:
    """Do the jobs in several processes, as ``torchrun`` starts them; what the main one reports, by folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["UNISTEP_CACHE"] = os.environ["UNISTEP_CACHE"]
    outs, workers = [folder / f"rank-{rank}.txt" for rank in range(processes)], []
    for rank, out in enumerate(outs):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        workers.append(forks.process(worker.work, jobs, folder, shared | ranks, out))
        workers[-1].start()
    for started in workers:
        started.join()
    codes = [started.exitcode for started in workers]
    assert codes == [0] * processes, "".join(out.with_suffix(".err").read_text() for out in outs)
    reports = [json.loads(line) for line in outs[0].read_text().splitlines()]
    return {Path(report["out"]).name: report for report in reports}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """All the work of the two processes, done once for all test processes."""
    return shared(tmp_path_factory, "parallel", work_of_two)


@pytest.fixture(scope="module")
def folder(work: tuple[Path, dict[str, dict[str, Any]]]) -> Path:
    """Where all runs of this file lie."""
    return work[0]


@pytest.fixture(scope="module")
def reports(work: tuple[Path, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What the main process reported of each run."""
    return work[1]


def work_of_two(folder: Path) -> dict[str, dict[str, Any]]:
    """Let two processes do everything that this file looks at."""
    make_data(folder / "data.npz")
    make_teacher(folder / "teacher")
    jobs: list[dict[str, Any]] = []
    for objective, kind in CASES:
        out = str(folder / f"{objective}-{kind}")
        # From the teacher's weights: a fresh network's last layer is zero, and so would be most gradients.
        settings = {**PLAIN, **KINDS[kind], "teacher": str(folder / "teacher")}
        jobs.append({"objective": objective, "out": out, "gradient": f"{out}.safetensors", "changes": settings})
    for name, (objective, optimizer) in STOPPED.items():
        settings = {"parallel": name[:4].strip("-"), "optimizer": optimizer, "max_steps": 3, "checkpoint_every": "100"}
        whole = {"objective": objective, "changes": settings}
        jobs.append({**whole, "out": str(folder / f"whole-{name}")})
        jobs.append({**whole, "out": str(folder / f"stopped-{name}"), "stop_at": 2})
        jobs.append({**whole, "out": str(folder / f"stopped-{name}"), "resume": True})
    handed = {**PLAIN, "parallel": "fsdp", "teacher": str(folder / "teacher")}
    jobs.append({"objective": "ect", "out": str(folder / "handed"), "changes": handed, "stop_at": 2})
    full = {"parallel": "ddp", "max_steps": 3, "checkpoint_every": "1"}
    jobs.append({"objective": "denoising", "out": str(folder / "full"), "changes": full, "full_at": 2})
    jobs.append({"live": {}, "out": str(folder / "live")})
    jobs.append({"live": {"stop_at": 2}, "out": str(folder / "live-stopped")})
    jobs.append({"live": {"resume": True}, "out": str(folder / "live-stopped")})
    return launch(jobs, folder)


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Path]:
    """The same runs by one process, by objective."""
    outs = {}
    for objective in OBJECTIVES:
        out = folder / f"{objective}-alone-{os.environ.get('PYTEST_XDIST_WORKER', 'only')}"
        changes = {**PLAIN, "teacher": str(folder / "teacher")}
        done, _ = do(
            {"objective": objective, "out": out, "gradient": f"{out}.safetensors", "changes": changes},
            folder,
        )
        assert done
        outs[objective] = out
    return outs


def largest_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((value - b[name]).abs().max()) for name, value in a.items())


@pytest.mark.parametrize(("objective", "kind"), CASES)
def test_two_processes_have_the_gradient_of_one(objective: str, kind: str, folder, reports, alone) -> None:
    ours = load_file(folder / f"{objective}-{kind}.safetensors")
    theirs = load_file(f"{alone[objective]}.safetensors")
    size = max(float(value.abs().max()) for value in theirs.values())
    assert size > 1e-3
    assert sum(bool(value.any()) for value in theirs.values()) > 0.9 * len(theirs)
    assert largest_difference(ours, theirs) < rounding(terms=8 * 8 * 8, scale=size)


def test_two_processes_train_live_objects_as_one(folder: Path, reports, tmp_path: Path) -> None:
    """A stop that one process asks for is a stop of both, and a resumed run ends with the same bits."""
    assert reports["live"]["done"]
    assert "step 4/4" in reports["live"]["text"]
    assert live.train(tmp_path / "alone")[0]
    ours, resumed, theirs = (
        torch.load(out / "made.pt") for out in (folder / "live", folder / "live-stopped", tmp_path / "alone")
    )
    assert {path.name for path in (folder / "live" / "samples").iterdir()} == {"00000002.png", "00000004.png"}
    assert len(metrics(folder / "live")) == len(metrics(tmp_path / "alone"))
    untrained = live.Net().state_dict()
    for name, value in theirs.items():
        # Each gradient is a sum over a batch of 8 of 8 x 8 pixels, and four of them are added to a weight.
        assert largest_difference({name: ours[name]}, {name: value}) < rounding(live.STEPS * 8 * 8 * 8), name
        assert torch.equal(resumed[name], ours[name]), name
        assert name == "sample" or largest_difference({name: value}, {name: untrained[name]}) > 1e-3, name


@pytest.mark.parametrize(("objective", "kind"), CASES)
def test_two_processes_end_with_the_weights_of_one(objective: str, kind: str, folder, reports, alone) -> None:
    assert reports[f"{objective}-{kind}"]["done"]
    _, ours, _ = checkpoint(folder / f"{objective}-{kind}")
    _, theirs, _ = checkpoint(alone[objective])
    assert ours.keys() == theirs.keys()
    moved = load_file(folder / "teacher" / "model.safetensors")
    prefix = "student.net."
    student = {n.removeprefix(prefix): value for n, value in theirs["weights"].items() if n.startswith(prefix)}
    assert largest_difference(student, moved) > 1e-3
    for name in ours.keys() - {"optimizer"}:
        assert largest_difference(ours[name], theirs[name]) < A_TRACE, name


@pytest.mark.parametrize("objective", ["ct", "cd"])
def test_the_averaged_target_is_saved_and_follows(objective: str, folder, reports, alone) -> None:
    for out in (folder / f"{objective}-fsdp-accumulated", alone[objective]):
        weights = checkpoint(out)[1]["weights"]
        target = {name: value for name, value in weights.items() if name.startswith("target.")}
        student = {name.replace("target.", "student.", 1): value for name, value in target.items()}
        start = load_file(folder / "teacher" / "model.safetensors")
        assert target
        assert largest_difference(student, {name: weights[name] for name in student}) > 0
        assert largest_difference({name.removeprefix("target.net."): v for name, v in target.items()}, start) > 0


@pytest.mark.parametrize("name", STOPPED)
def test_an_interrupted_run_of_two_goes_on_to_the_last_bit(name: str, folder, reports) -> None:
    assert reports[f"stopped-{name}"]["done"]
    assert "going on after step 2" in reports[f"stopped-{name}"]["text"]
    assert_same(folder / f"stopped-{name}", folder / f"whole-{name}")


def test_two_processes_draw_the_samples_and_save_the_model_of_one(folder, reports, alone) -> None:
    for objective in OBJECTIVES:
        out = folder / f"{objective}-fsdp-accumulated"
        assert [path.stem for path in sorted((out / "samples").glob("*.png"))] == ["00000002", "00000003"]
        ours, theirs = (load(path).sample(3, seed=5, label=1) for path in (out, alone[objective]))
        assert torch.allclose(ours, theirs, atol=1e-3)
        assert (metrics(out)[-1]["loss"]) == pytest.approx(metrics(alone[objective])[-1]["loss"], rel=1e-4)


def test_no_process_looks_for_unused_parameters(folder, reports) -> None:
    """DDP warns of the search where all parameters are used, as they are, and the search costs time at each step."""
    told = "".join((folder / f"rank-{rank}.err").read_text() for rank in range(2))
    assert "find_unused_parameters" not in told
    assert "unused" not in told
    assert "broadcast_buffers" not in told  # an option that newer versions of PyTorch call otherwise


def test_a_full_disk_of_the_main_process_stops_none(folder, reports) -> None:
    report = reports["full"]
    assert report["done"]
    assert "checkpoint of step 2 not written" in report["text"]
    assert "No space left on device" in report["text"]
    assert checkpoint(folder / "full")[0] == 3


def test_one_process_goes_on_where_two_stopped(folder, reports, alone) -> None:
    """A checkpoint is whole, whoever wrote it; dropout differs by share, so it is off here."""
    changes = {**PLAIN, "teacher": str(folder / "teacher"), "parallel": "fsdp"}
    done, text = do({"objective": "ect", "out": folder / "handed", "changes": changes, "resume": True}, folder)
    assert done
    assert "going on after step 2" in text
    ours, theirs = checkpoint(folder / "handed")[1], checkpoint(alone["ect"])[1]
    assert largest_difference(ours["weights"], theirs["weights"]) < A_TRACE


def test_bad_devices_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sees no GPU; use --device cpu"):
        start_world("cuda")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        start_world("gpu")
    assert start_world(None) == World()


class Answered(World):
    """A process that hears from the main one what it is told to hear."""

    heard: ClassVar[list[Any]] = []

    def broadcast(self, value: Any) -> Any:
        self.heard.append(value)
        return self.heard[0]


def test_a_refusal_of_the_main_process_ends_the_others_quietly(monkeypatch) -> None:
    def refuse() -> None:
        raise ValueError("no such data")

    monkeypatch.setattr(Answered, "heard", [])
    with pytest.raises(ValueError, match="no such data"):
        Answered(0, 2).run_on_rank_zero(refuse)
    with pytest.raises(SystemExit) as left:
        Answered(1, 2).run_on_rank_zero(refuse)
    assert left.value.code == 2


def test_networks_are_chosen_by_the_clock_of_the_main_process(monkeypatch, tmp_path) -> None:
    """By their own clocks one process may time a network more than another, and wait for it for good."""
    make_data(tmp_path / "data.npz")
    config = replace(run_config("denoising", tmp_path), teacher=None, max_steps=None, budget="1h", auto=("network",))
    seen = list[float | None]()

    def choose(candidates: Any, speed: Any, seconds: float | None) -> Any:
        seen.append(seconds)
        raise InterruptedError

    monkeypatch.setattr(Answered, "heard", [12.5])
    monkeypatch.setattr(resolve_module, "choose_network", choose)
    with pytest.raises(InterruptedError):
        resolve_module.resolve(config, prepare(config.data, progress=False), Session(world=Answered(1, 2)))
    assert seen == [12.5]


def test_the_main_process_works_for_all(monkeypatch) -> None:
    monkeypatch.setattr(Answered, "heard", [])
    assert Answered(0, 2).run_on_rank_zero(lambda: 7) == 7
    assert Answered(1, 2).run_on_rank_zero(lambda: 8) == 7


@pytest.mark.parametrize("size", [11, 49])
def test_numbers_of_the_main_process_are_the_same_on_all(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of steps that lost its last bit on the way would be one less."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total)  # the others add zero
    numbers = [float(number) for number in range(500)]
    assert World(0, size).from_rank_zero(numbers) == numbers
