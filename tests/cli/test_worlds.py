"""``unistep evaluate --rollout``: a world beside recordings of play."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli.standins import save_standin, save_world
from unistep.evaluation import inverse_dynamics, worlds
from unistep.modalities.video import VideoModality

needs_av = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is missing: pip install 'unistep[video]'")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_world(tmp_path_factory.mktemp("world") / "world")
    config = folder / "config.json"
    written = config.read_text()
    assert '"data": "racing"' in written
    config.write_text(written.replace('"data": "racing"', '"data": "folder:plays"'))  # no drives are to be recorded
    return folder


def save_play(folder: Path, count: int = 3, length: int = 24) -> None:
    """Videos of grey noise that stands still, each with a table of actions."""
    folder.mkdir()
    random = np.random.default_rng(0)
    clips = VideoModality(size=16, channels=3, frames=length, fps=25)
    for number in range(count):
        still = torch.from_numpy(random.integers(0, 256, (3, 1, 16, 16), np.uint8))
        clips.save(still.repeat(1, length, 1, 1), folder / f"{number}.mp4")
        rows = [f"{steer},{gas}" for steer, gas in random.integers([-1, 0], 2, (length, 2))]
        (folder / f"{number}.csv").write_text("\n".join(["steer,gas", *rows]) + "\n")


@needs_av
def test_a_world_is_rolled_out_beside_play_of_ones_own(run, world, monkeypatch):
    quick = inverse_dynamics.DynamicsRecipe(channels=(8, 8), steps=3, batch_size=4)
    learn: Any = worlds.learn_dynamics
    monkeypatch.setattr(worlds, "learn_dynamics", lambda *given, progress: learn(*given[:3], quick, progress=progress))
    save_play(Path("plays"))
    outcome = run(
        ["evaluate", str(world)],
        "--rollout 10 --data folder:plays --num 5 --features pixels scales --json r.json --seed 3",
    )
    assert outcome.code == 0, outcome
    assert "written to r.json" in outcome.out
    assert "teacher-forced" in outcome.out
    plain = json.loads(Path("r.json").read_text())
    assert (plain["streams"], plain["length"], plain["before"], plain["seed"]) == (5, 10, 2, 3)
    assert plain["data"] == "folder:plays"
    assert any("itself" in note for note in plain["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rollout 0", "--rollout must be from 1 to 100,000 frames, got 0"),
        ("--rollout 5 --num 1", "--num must be at least 2 recordings, got 1"),
        ("--rollout 5 --steps 1 2", "--rollout takes one number of --steps, got 1 2"),
        ("--rollout 5 --teacher fashion", "--rollout compares one world with recordings of play; leave --teacher out"),
        ("--rollout 5 --action gas", "--rollout compares one world with recordings of play; leave action out"),
        ("--rollout 5 --features vicrag", "no feature network 'vicrag'"),
    ],
)
def test_mistakes_are_named(run, world, words, message):
    outcome = run(["evaluate", str(world)], words)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_model_that_is_no_world_is_refused(run, tmp_path):
    outcome = run(["evaluate", str(save_standin(tmp_path / "m", "consistency"))], "--rollout 5")
    assert outcome.code == 2
    assert "m makes images by themselves, no stream of frames to act in" in outcome.err


def test_an_evaluation_of_a_world_by_samples_names_the_better_one(run, world):
    outcome = run(["evaluate", str(world)], "--data folder:nowhere")
    assert outcome.code == 2
    assert "--rollout 1000 compares it with recordings of play" in outcome.err
