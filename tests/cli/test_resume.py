"""A stopped command says how to go on, and what is not typed again is as the run was begun with."""

from __future__ import annotations

import json
import shlex

import pytest

from cli.standins import TINY, save_pictures
from unistep.training.loop import Loop


@pytest.fixture
def stop_after(monkeypatch):
    """Makes a run stop, as Ctrl-C does, after so many steps; 0 never."""
    proceed, at = Loop._one_step, {"step": 0}

    def stepped(self):
        self.stop.signalled = self.step + 1 == at["step"]
        return proceed(self)

    monkeypatch.setattr(Loop, "_one_step", stepped)
    return lambda step: at.update(step=step)


def test_a_run_that_stops_in_its_teacher_goes_on_with_its_own_data(run, place, stop_after):
    pictures = save_pictures(place / "my pictures", side=16)
    options = ["--data", f"folder:{pictures}", "--data.size", "16", "--batch-size", "4", "--max-steps", "8", *TINY]
    stop_after(2)
    outcome = run(["train", "fashion/ect", "--out", "my run", *options])
    assert outcome.code == 130
    command = "unistep train fashion/ect --out 'my run' --resume"
    assert f"stopped after step 2 of 5, saved; go on with:\n  {command}\n" in outcome.out
    assert not (place / "my run" / "config.json").exists()

    stop_after(1)
    outcome = run(shlex.split(command)[1:])
    assert (outcome.code, outcome.err) == (130, "")
    assert "going on after step 2" in outcome.out
    stored = json.loads((place / "my run" / "config.json").read_text())  # of the student, which has begun
    assert (stored["data"]["source"], stored["batch_size"], stored["max_steps"]) == (f"folder:{pictures}", 4, 3)

    for words, message in (
        (["--data", "fashion-mnist:test"], "holds another run"),
        (["--batch-size", "8"], r"cannot go on with changes (batch_size: 4 -> 8)"),
    ):
        outcome = run([*shlex.split(command)[1:], *words])
        assert outcome.code == 2
        assert message in outcome.err
        assert outcome.err.count("\n") == 1
    outcome = run(["train", "fashion/ct", "--out", "my run", "--resume"])
    assert outcome.code == 2
    assert "my run holds another run, by 'fashion/ect' and not 'fashion/ct'" in outcome.err

    stop_after(0)
    outcome = run([*shlex.split(command)[1:], "--max-steps", "9"])
    assert (outcome.code, outcome.err) == (0, "")
    assert "unistep sample 'my run'" in outcome.out
    assert json.loads((place / "my run" / "config.json").read_text())["max_steps"] == 4
    assert run(shlex.split(command)[1:]).code == 0  # nothing is left to do
    assert json.loads((place / "my run" / "config.json").read_text())["max_steps"] == 4


def test_a_budget_without_a_unit_is_one_line(run, place):
    outcome = run("train fashion/denoising --budget 10")
    assert outcome.code == 2
    assert "budget 10 has no unit: write 10m for minutes, or --max-steps 10 for optimizer steps" in outcome.err
    assert outcome.err.count("\n") == 1
