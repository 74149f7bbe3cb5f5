"""A time budget is a deadline: the number of steps adapts to the clock, and every decision is on record."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import assert_same, checkpoint, metrics, run, run_config, steady

from unistep.training import pace as pace_module
from unistep.training import resolve as resolve_module
from unistep.training.optim import MuonConfig, Schedule
from unistep.training.pace import Clock, Deadline, Leg, Pace, known_plans, write_plans
from unistep.training.run import train
from unistep.training.step import Gradient, TrainStep

BUDGET = 100.0


def simulate(cost: Callable[[int], float], expected: float, reserve: float = 0.0) -> tuple[int, float, list[float]]:
    """Steps, seconds and progress of a run whose steps take ``cost(step)``, where ``expected`` was measured."""
    deadline, elapsed, step = Deadline(BUDGET, expected), 0.0, 0
    pace = Pace([deadline.first(0.0)])
    deadline.begin(0, 0.0)
    seen = []
    while step < pace.total(step):
        seen.append(pace.progress(step))
        elapsed += cost(step)
        step += 1
        leg = deadline.replan(step, elapsed, pace, reserve)
        if leg is not None:
            pace.add(leg)
    return step, elapsed + reserve, seen


@pytest.mark.parametrize(
    "cost",
    [
        lambda step: 0.1,
        lambda step: 0.5,  # beside other work from the start
        lambda step: 0.02,
        lambda step: 0.1 if step < 300 else 0.8,  # other work begins
        lambda step: 0.8 if step < 40 else 0.1,  # other work ends
        lambda step: 0.1 + 0.05 * (step % 7),
        lambda step: 4.0,
    ],
)
@pytest.mark.parametrize("reserve", [0.0, 3.0])
def test_a_run_ends_with_its_budget(cost: Callable[[int], float], reserve: float) -> None:
    steps, seconds, progress = simulate(cost, 0.1, reserve)
    assert 0.9 * BUDGET <= seconds <= 1.1 * BUDGET
    assert all(a <= b for a, b in itertools.pairwise(progress))
    assert progress[0] == 0
    assert 0.85 < progress[-1] <= 1  # the learning rate and the curriculum have come to their end
    assert steps > 20


def test_progress_follows_the_clock() -> None:
    """Half of the time is half of the training, whatever the speed was."""
    cost = {True: 0.1, False: 0.4}
    _, _, progress = simulate(lambda step: cost[step < 500], 0.1)
    seconds = 0.0
    for step, share in enumerate(progress):
        assert abs(share - seconds / BUDGET) < 0.06
        seconds += cost[step < 500]


def test_a_number_of_steps_has_one_plan() -> None:
    pace = Pace([Leg(0, 0.0, 7)])
    assert [pace.progress(step) for step in range(8)] == [step / 7 for step in range(8)]
    assert {pace.total(step) for step in range(8)} == {7}


def test_plans_on_record_are_taken_up_and_torn_ones_are_not(tmp_path: Path) -> None:
    legs = [Leg(0, 0.0, 100), Leg(20, 0.2, 60), Leg(40, 0.6, 55)]
    write_plans(tmp_path, legs)
    assert known_plans([[0, 0.0, 100], [20, 0.2, 60]], tmp_path) == legs
    assert known_plans([[0, 0.0, 90]], tmp_path) == [Leg(0, 0.0, 90)]  # of another run: those of the checkpoint hold
    with (tmp_path / "plan.jsonl").open("a") as file:
        file.write('{"step": 50, "pro')
    assert known_plans([[0, 0.0, 100]], tmp_path) == legs
    pace = Pace(legs)
    assert pace.decided(30)
    assert not pace.decided(40)
    assert Deadline(1.0, 1.0).replan(30, 99.0, pace) is None  # what was decided then is not decided again


class SlowMachine:
    """A clock that only training steps move on; from some step on they take four times as long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float, slow_from: int) -> None:
        self.now, self.taken = 0.0, 0
        compute = TrainStep.gradient

        def gradient(step: TrainStep, number: int, progress: float, *, stop: bool = False) -> Gradient:
            self.taken += 1
            self.now += seconds * (4 if number >= slow_from else 1)
            return compute(step, number, progress, stop=stop)

        monkeypatch.setattr(TrainStep, "gradient", gradient)
        monkeypatch.setattr(pace_module, "now", lambda: self.now)


def test_a_run_on_a_slow_machine_ends_in_time_and_repeats_its_decisions(tmp_path: Path, monkeypatch) -> None:
    machine = SlowMachine(monkeypatch, 0.1, slow_from=20)
    schedule = Schedule(warmup_steps=3, meant_for=90)
    config = run_config("ect", tmp_path, max_steps=None, budget="6s", checkpoint_every="10", keep=9, schedule=schedule)
    monkeypatch.setattr(resolve_module, "time_steps", steady(80))
    done, text = run(config, tmp_path / "run")
    assert done
    assert "6s; the number of steps adapts to the clock" in text
    assert 5.4 <= machine.now <= 6.6
    steps = checkpoint(tmp_path / "run")[0]
    assert 25 <= steps <= 35  # 60 were planned
    plans = [json.loads(line) for line in (tmp_path / "run" / "plan.jsonl").read_text().splitlines()]
    assert plans[0]["total"] > 2 * steps - 10
    assert len(plans) > 2
    assert all(a["step"] < b["step"] for a, b in itertools.pairwise(plans))
    # Each step is as long as the share of the training that it is.
    pace, peak = Pace([Leg(**plan) for plan in plans]), MuonConfig().lr
    factors = [schedule.factor(step, pace.progress(step), pace.share(step)) for step in range(steps)]
    rates = {row["step"]: row["learning_rate"] for row in metrics(tmp_path / "run")}
    assert len(rates) > 2
    assert rates == pytest.approx({step: peak * factors[step - 1] for step in rates})
    assert factors[10] == pytest.approx(1.5, rel=0.1)
    assert max(factors) > 2
    # Killed before its last checkpoint, and resumed on a machine of another speed: the same to the last bit.
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again)
    shutil.rmtree(again / "model")
    for folder in (again / "checkpoints").iterdir():
        if int(folder.name) > 10:
            shutil.rmtree(folder)
    monkeypatch.setattr(pace_module, "now", lambda: 0.0)
    done, text = run(config, again, resume=True)
    assert done
    assert "going on after step 10" in text
    assert_same(again, tmp_path / "run")


def test_teacher_and_student_share_one_deadline(tmp_path: Path, monkeypatch) -> None:
    machine = SlowMachine(monkeypatch, 0.2, slow_from=8)
    config = run_config("ect", tmp_path, max_steps=None, budget="10s", teacher=None, checkpoint_every="1000")
    done, _ = run(config, tmp_path / "run")
    assert done
    assert 9 <= machine.now <= 11
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["budget"], config["max_steps"]) == ("10s", None)


def test_another_budget_goes_on_from_where_the_run_is(tmp_path: Path, monkeypatch) -> None:
    machine = SlowMachine(monkeypatch, 0.2, slow_from=1000)
    config = run_config("denoising", tmp_path, max_steps=None, budget="2s", checkpoint_every="1000")
    run(config, tmp_path / "run")
    first = checkpoint(tmp_path / "run")[0]
    longer = run_config("denoising", tmp_path, max_steps=None, budget="4s", checkpoint_every="1000")
    assert run(longer, tmp_path / "run", resume=True)[0]
    assert 3.6 <= machine.now <= 4.4
    assert checkpoint(tmp_path / "run")[0] > 1.5 * first
    assert train(None, str(tmp_path / "run"), resume=True, device="cpu")  # nothing is left to do
    assert 3.6 <= machine.now <= 4.4


def test_the_plan_of_a_run_that_goes_on_is_of_the_time_that_is_left(tmp_path: Path, monkeypatch) -> None:
    machine = SlowMachine(monkeypatch, 0.1, slow_from=1000)
    config = run_config("denoising", tmp_path, max_steps=None, budget="4s", checkpoint_every="1000")
    monkeypatch.setattr(resolve_module, "time_steps", steady(80))
    assert not run(config, tmp_path / "run", cancel=lambda: machine.taken >= 30)[0]
    done, text = run(config, tmp_path / "run", resume=True)
    assert done
    assert "about 10 of 40 left" in text
    assert re.search(r"expected time +0:00:01", text)
    longer = run_config("denoising", tmp_path, max_steps=None, budget="6s", checkpoint_every="1000")
    done, text = run(longer, tmp_path / "run", resume=True)
    assert done
    assert "about 20 of 60 left" in text
    assert json.loads((tmp_path / "run" / "plan.jsonl").read_text().splitlines()[0])["total"] == 60


def test_a_clock_adds_earlier_sessions(monkeypatch) -> None:
    moment = 5.0
    monkeypatch.setattr(pace_module, "now", lambda: moment)
    clock = Clock(3.0)
    moment = 7.0
    assert clock.elapsed() == 5.0
