"""The evaluation of worlds, on a game whose next frame is known: a bright column that moves left or right."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from unistep.codecs.next_frame import NextFrameConfig
from unistep.core.action_fields import ActionField
from unistep.core.condition import CONTEXT
from unistep.core.values import Action
from unistep.data import Dataset
from unistep.evaluation import WorldReport, evaluate_world, save_world_plot
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.inverse_dynamics import DynamicsRecipe, classes_of, dynamics_path, learn_dynamics
from unistep.evaluation.world_metrics import WorldMetrics, blocks_of
from unistep.evaluation.world_report import RolloutFigures
from unistep.generation.generator import Generator
from unistep.generation.history import Context
from unistep.generation.model_config import ModelConfig
from unistep.generation.session import StreamSession
from unistep.modalities.video import VideoModality
from unistep.modalities.video_options import VideoOptions
from unistep.nets.unet import UNetConfig

SIDE, PAST = 16, 2
FIELD = ActionField(names=("go",), low=(-1,), high=(1,))
QUICK = DynamicsRecipe(channels=(8, 8), steps=120, batch_size=32)
NETWORKS = ("pixels", "means")
Rule = Callable[[Tensor, Tensor], Tensor]
"""``rule(last, action)``: the next frame ``[b, 3, h, w]``, from the last one and actions ``[b, 1]``."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path_factory.getbasetemp() / "worlds-cache"))


def game(last: Tensor, action: Tensor) -> Tensor:
    """Two columns to the side of the action; what leaves on one side comes back on the other."""
    moved = [torch.roll(x, 2 * round(float(a)), dims=-1) for x, a in zip(last, action, strict=True)]
    return torch.stack(moved)


def frozen(last: Tensor, action: Tensor) -> Tensor:
    """Nothing ever happens."""
    del action
    return last


def fading(last: Tensor, action: Tensor) -> Tensor:
    """The game, getting darker."""
    return game(last, action) - 8 / 255


def means(frames: Tensor) -> Tensor:
    """Features: means over 16 squares."""
    return torch.nn.functional.adaptive_avg_pool2d(frames[:, :, 0], 4).flatten(1)


class Rules(Generator):
    """A world whose next frame is that of a rule."""

    rule: Rule

    def session(self, **settings: Any) -> StreamSession:
        del settings
        config = self.config

        def draw(noise: Tensor, condition: Any, items: Any) -> Tensor:
            del noise, items
            return self.rule(condition[CONTEXT].signal[:, -3:] * config.sigma_data, condition["action"].vector)

        context: Any = config.context
        return StreamSession(
            codec=self.codec,
            context=context,
            sigma_data=config.sigma_data,
            fields=config.fields,
            draw=draw,
            device=self.device,
        )


def world(rule: Rule) -> Rules:
    config = ModelConfig(
        kind="consistency",
        network=UNetConfig(dims=2, patch=2, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16),
        modality=VideoModality(size=SIDE, channels=3, frames=5, fps=10),
        codec=NextFrameConfig(history=PAST),
        context=Context(frames=PAST, noise=0.0, level=0.0),
        fields={"action": FIELD},
    ).fitted()
    made = Rules(config.build(), config, rule.__name__)
    made.rule = rule
    return made


def played(count: int, length: int, seed: int, name: str = "action") -> Dataset:
    """Recordings of the game; actions last for some frames."""
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(-1, 2, (count, length, 1), generator=generator).float()
    frame = torch.full((count, 3, SIDE, SIDE), -1.0)
    for row, at in enumerate(torch.randint(SIDE, (count,), generator=generator).tolist()):
        columns = [(at + k) % SIDE for k in range(3)]
        frame[row, :, :, columns] = torch.tensor([1.0, 0.0, -0.5])  # so that its sides differ
    frames = [frame]
    for number in range(1, length):
        frames.append(game(frames[-1], actions[:, number]))
    clips = VideoModality(size=SIDE, channels=3, frames=length, fps=10)
    stored = clips.to_stored(torch.stack(frames, dim=2))
    known: dict[str, Any] = {name: Action(actions)}
    return Dataset.from_tensors(stored, modality=clips, fields={name: FIELD}, source=f"play {seed}", **known)


def evaluated(rule: Rule, length: int = 75, **given: Any) -> WorldReport:
    return evaluate_world(
        world(rule),
        played(4, PAST + length, seed=1),
        played(80, 5, seed=2),
        features=("pixels", FeatureNetwork(means, name="means", version="1", shape=(3, 1, SIDE, SIDE))),
        recipe=QUICK,
        progress=False,
        **given,
    )


def test_a_perfect_copy_of_the_game_is_the_game() -> None:
    report = evaluated(game)
    real = report.row("real")
    assert real.actions.accuracy > 0.95
    assert report.guess < 0.5
    for name in ("teacher-forced", "free-running"):
        row = report.row(name)
        assert row.psnr == (100.0,) * 75
        assert row.ssim == pytest.approx([1.0] * 75, abs=1e-6)
        assert row.actions == real.actions
        assert report.actions_over_real(row) == 1
        for network in NETWORKS:
            assert row.distance[network] == (0.0,) * 75
            assert row.frechet[network] == real.frechet[network]
            assert row.drift(network) == real.drift(network)
    for name in ("last true frame again", "first frame held", "another recording"):
        row = report.row(name)
        assert max(report.means(row.psnr)) < 80  # where nothing is done, nothing moves
        assert report.actions_over_real(row) < 0.8


def test_an_evaluation_that_was_broken_off_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the first rollout of the world has given is not computed again; other frames are."""
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path))
    measure, measured = WorldMetrics.measure, list[str]()

    def until_the_second(self: WorldMetrics, name: str, *given: Any) -> RolloutFigures:
        if name == "free-running" and not measured.count("broken off"):
            measured.append("broken off")
            raise KeyboardInterrupt
        measured.append(name)
        return measure(self, name, *given)

    def twice(length: int) -> WorldReport:
        torch.manual_seed(0)  # the same weights
        return evaluated(game, length)

    monkeypatch.setattr(WorldMetrics, "measure", until_the_second)
    with pytest.raises(KeyboardInterrupt):
        twice(12)
    assert measured == ["real", "teacher-forced", "broken off"]
    report = twice(12)
    assert measured.count("teacher-forced") == measured.count("free-running") == 1
    assert twice(12).rows == report.rows
    assert measured.count("free-running") == 1
    twice(13)
    assert measured.count("free-running") == 2
    for path in (tmp_path / "rollouts").iterdir():
        path.write_text("{")
    assert twice(12).rows == report.rows
    assert measured.count("free-running") == 3


def test_a_frozen_world_is_the_floor_of_its_kind() -> None:
    report = evaluated(frozen)
    for name, floor in (("teacher-forced", "last true frame again"), ("free-running", "first frame held")):
        row, other = report.row(name), report.row(floor)
        assert replace(row, name=floor, role="floor") == other
    held = report.row("first frame held")
    assert held.actions.accuracy == pytest.approx(1 / 3, abs=0.1)


def test_errors_add_up_when_a_world_goes_on_from_its_own_frames() -> None:
    report = evaluated(fading)
    forced, free = report.row("teacher-forced"), report.row("free-running")
    first, *_, last = report.means(free.psnr)
    assert free.psnr[0] == forced.psnr[0]
    assert last < first - 10
    assert min(forced.psnr) == pytest.approx(forced.psnr[0], abs=0.5)
    for network in NETWORKS:
        assert free.drift(network) > 2
        assert free.distance[network][-1] > 3 * forced.distance[network][-1]


def test_the_report_is_tables_markdown_json_and_a_plot(tmp_path: Path) -> None:
    report = evaluated(fading, length=12)
    console = Console(width=100, record=True, file=io.StringIO())
    for table in report.tables():
        console.print(table)
    for text in (console.export_text(), report.markdown()):
        for words in ("PSNR to the true frame", "SSIM", "pixels v1", "teacher-forced", "2-10", "balanced", "play 1"):
            assert words in text
    report.save_json(tmp_path / "report.json")
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["format"] == "unistep-world-1"
    assert plain["rows"][1]["psnr"] == list(report.row("free-running").psnr)
    pytest.importorskip("matplotlib", reason="matplotlib is missing: pip install 'unistep[eval]'")
    save_world_plot(report, tmp_path / "report.svg")
    assert (tmp_path / "report.svg").read_text().count("<path") > 20
    with pytest.raises(ValueError, match="no rollout 'freerunning'; it has teacher-forced"):
        report.row("freerunning")


def test_frames_of_a_table_end_at_powers_of_ten_and_blocks_after_50() -> None:
    report = replace(evaluated(game, length=2), length=1000)
    assert report.spans == ((1, 1), (2, 10), (11, 100), (101, 1000))
    assert replace(report, length=60).spans == ((1, 1), (2, 10), (11, 60))
    assert report.means([1.0, *range(999)])[:2] == [1.0, 4.0]
    assert blocks_of(10) == ((1, 10),)
    assert blocks_of(124) == ((1, 50), (51, 124))
    assert blocks_of(125) == ((1, 50), (51, 100), (101, 125))
    assert blocks_of(1000)[-1] == (951, 1000)


def test_classes_are_those_of_signs_beyond_a_quarter() -> None:
    field = ActionField(names=("steer", "gas"), low=(-1, 0), high=(1, 2))
    actions = torch.tensor([[-1.0, 0.0], [-0.2, 0.5], [0.26, 0.6], [0.0, 2.0]])
    assert classes_of(field, actions).tolist() == [[2, 0], [0, 0], [1, 1], [0, 1]]


def test_what_has_learned_actions_is_kept_and_a_damaged_file_learns_again() -> None:
    data, steps = played(20, 4, seed=3), []
    first = learn_dynamics(data, "action", FIELD, QUICK, progress=steps.append)
    assert len(steps) == QUICK.steps
    again = learn_dynamics(data, "action", FIELD, QUICK, progress=steps.append)
    assert len(steps) == QUICK.steps
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    dynamics_path(data, FIELD, QUICK).write_bytes(b"nothing")
    learn_dynamics(data, "action", FIELD, QUICK, progress=steps.append)
    assert len(steps) == 2 * QUICK.steps


def test_mistakes_are_named() -> None:
    play, model = played(3, 8, seed=4), world(game)
    with pytest.raises(ValueError, match="at least 2 recordings, got num 1"):
        evaluate_world(model, play, play, num=1)
    with pytest.raises(ValueError, match="at least 2 recordings, and play 4 has 1"):
        evaluate_world(model, played(1, 8, seed=4), play)
    other = played(3, 8, seed=5, name="act")
    with pytest.raises(ValueError, match="game takes action of go, and play 5 has no such actions"):
        evaluate_world(model, other, play)
    with pytest.raises(ValueError, match="clips of 2 frames, and game goes on from 2"):
        evaluate_world(model, played(3, 2, seed=6), play)


def test_clips_of_recordings_lie_apart() -> None:
    assert VideoOptions(frames=30, stride=1).apart() == VideoOptions(frames=30, stride=30)
