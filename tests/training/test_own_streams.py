"""Streams of a model's own in post-training: what they go on from, what is drawn from them, and how a run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import assert_same, metrics, run
from torch import Tensor, nn
from worker import stop_after

from unistep.codecs.identity import IdentityConfig
from unistep.codecs.next_frame import NextFrameConfig
from unistep.core.action_fields import ActionField
from unistep.core.condition import CONTEXT, Condition, Label, Signal
from unistep.core.path import VarianceExploding
from unistep.core.values import Action
from unistep.data import Dataset, data_config
from unistep.generation.history import Context
from unistep.generation.model_config import ModelConfig
from unistep.hub import save
from unistep.modalities.video import VideoModality
from unistep.nets.unet import UNetConfig
from unistep.objectives.fd import FDConfig
from unistep.training import own_streams
from unistep.training.examples import Examples
from unistep.training.loop import Loop
from unistep.training.optim import AdamConfig, Schedule
from unistep.training.own_streams import OwnStreams, chunks_of_past
from unistep.training.run_config import RunConfig

PAST, LENGTH = 2, 12
CODEC = NextFrameConfig(history=PAST, scale=0.5)
CONTEXT_OF_TWO = Context(frames=PAST, noise=0.0, level=0.0, missing=0.0, changing=())
CLIPS = VideoModality(size=4, channels=1, frames=PAST + LENGTH, fps=10)
FIELD = ActionField(names=("go",), low=(-1,), high=(1,))


class Adds(nn.Module):
    """A student whose next frame is the last one and the action."""

    path = VarianceExploding()

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, s: None, condition: Condition) -> Tensor:
        del x, t, s
        shown, action = condition[CONTEXT], condition["action"]
        assert isinstance(shown, Signal)
        assert isinstance(action, Action)
        self.calls += len(action.vector)
        return shown.signal[:, -1:] * 0.5 + action.vector[:, :, None, None] / 64


def recordings(count: int = 5) -> Dataset:
    """Clips that stand still, whatever the actions."""
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (count, 1, 1, 1, 1), generator=generator, dtype=torch.uint8)
    actions = torch.randint(-1, 2, (count, PAST + LENGTH, 1), generator=generator).float()
    stored = grey.expand(-1, -1, PAST + LENGTH, 4, 4).clone()
    return Dataset.from_tensors(stored, modality=CLIPS, fields={"action": FIELD}, action=Action(actions))


def streams(count: int = 7, data: Dataset | None = None) -> OwnStreams:
    data = data or recordings()
    examples = Examples(CLIPS, CODEC.build(CLIPS.shape), CONTEXT_OF_TWO, 0.5, as_in_streams=True)
    return OwnStreams(examples, data, count, LENGTH, seed=3)


def batch(count: int) -> Condition:
    """Conditions of the data that no stream has."""
    past = torch.full((count, PAST, 4, 4), 9.0)
    return {"action": Action(torch.full((count, 1), 9.0)), CONTEXT: Signal.clean(past), "label": _labels(count)}


def _labels(count: int) -> Label:
    return Label(torch.arange(count))


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_streams, "WINDOW", 6)


def drawn(made: OwnStreams, count: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Which examples are a stream's own, their pasts as the network sees them, and their actions."""
    shown = made.shown(batch(count), torch.Generator().manual_seed(1))
    context, action = shown[CONTEXT], shown["action"]
    assert isinstance(context, Signal)
    assert isinstance(action, Action)
    assert torch.equal(shown["label"].tensors["index"], torch.arange(count))  # what streams do not say stays
    own = action.vector[:, 0] < 5
    assert torch.equal(own, (context.signal < 5).flatten(1).all(dim=1))
    return own, context.signal[:, :, 0, 0] * 0.5, action.vector[:, 0]


def places(data: Dataset) -> set[tuple[float, float, float]]:
    """Every past of two own chunks that a stream can show, and the action after it."""
    found = set()
    for row in range(len(data)):
        stored, condition = data.batch([row])
        action = condition["action"]
        assert isinstance(action, Action)
        moves = action.vector[0, :, 0]
        start = float(CLIPS.to_signal(stored)[0, 0, PAST - 1, 0, 0]) * 0.5
        values = start + torch.cumsum(moves[PAST:], dim=0) / 64  # of chunk PAST, PAST + 1, ...
        for number in range(PAST + PAST, PAST + LENGTH):
            pair = values[number - PAST - 2], values[number - PAST - 1]
            found.add((round(float(pair[0]), 2), round(float(pair[1]), 2), float(moves[number])))
    return found


@pytest.mark.usefixtures("window")
def test_pasts_are_what_the_model_made_under_the_recorded_actions() -> None:
    data, student = recordings(), Adds()
    made = streams(data=data)
    made.begin(student)  # type: ignore[arg-type]
    known = places(data)
    for turn in range(4):
        own, past, action = drawn(made)
        assert own.float().mean() > 0.3
        for before, last, move in zip(past[own, 0], past[own, 1], action[own], strict=True):
            assert any(
                abs(float(before) - a) < 0.02 and abs(float(last) - b) < 0.02 and float(move) == c for a, b, c in known
            )
        for _ in range(own_streams.EVERY):
            made.after_step()
        made.refresh(student)  # type: ignore[arg-type]
        assert int(made.turns) == turn + 2


@pytest.mark.usefixtures("window")
def test_three_in_four_are_own_where_streams_are_deep_enough() -> None:
    made, student = streams(count=2), Adds()
    made.begin(student)  # type: ignore[arg-type]
    made.number[:] = PAST + LENGTH  # both at the end of their recording, so that all of the window is one stream's
    own, _, _ = drawn(made, 4000)
    assert float(own.float().mean()) == pytest.approx(own_streams.SHARE, abs=0.03)


@pytest.mark.usefixtures("window")
def test_streams_begin_at_depths_that_are_spread_and_none_costs_more_than_it_must() -> None:
    made, student = streams(count=40), Adds()
    made.begin(student)  # type: ignore[arg-type]
    depths = made.number - PAST
    assert set(depths.tolist()) == set(range(6, LENGTH + 1))
    assert student.calls == int(depths.sum())


def test_streams_go_on_when_it_is_time_and_not_before_they_began() -> None:
    made, student = streams(), Adds()
    for _ in range(2 * own_streams.EVERY):
        made.after_step()
    made.refresh(student)  # type: ignore[arg-type]
    assert student.calls == 0
    own, _, _ = drawn(made)
    assert not own.any()
    made.begin(student)  # type: ignore[arg-type]
    made.steps.zero_()
    calls = student.calls
    for _ in range(own_streams.EVERY):
        made.refresh(student)  # type: ignore[arg-type]
        assert student.calls == calls
        made.after_step()
    made.refresh(student)  # type: ignore[arg-type]
    assert student.calls == calls + own_streams.ON * 7


def test_a_past_is_as_many_chunks_as_it_takes_to_forget_what_was_before() -> None:
    assert chunks_of_past(CODEC.build(CLIPS.shape), torch.zeros(2, 1, 4, 4)) == PAST
    assert chunks_of_past(IdentityConfig(chunk=4, scale=0.5).build((3, 8)), torch.zeros(2, 3, 4)) == 1


def test_what_has_no_streams_says_so() -> None:
    examples = Examples(CLIPS, CODEC.build(CLIPS.shape), None, 0.5)
    with pytest.raises(
        ValueError, match=r"streams of its own are for the model of a stream; leave --objective.streams"
    ):
        OwnStreams(examples, recordings(), 2, LENGTH, 0)
    with pytest.raises(ValueError, match="streams of its own are for models of next frames"):
        IdentityConfig().lasting_shape((3, 8), 4)
    with pytest.raises(ValueError, match="streams must be from 0 on and as long as a chunk at least, got -1 of 480"):
        FDConfig(streams=-1)
    with pytest.raises(ValueError, match="answering is about streams of its own, and there are none; give streams"):
        FDConfig(answering=True)
    with pytest.raises(ValueError, match="got 4 of 0; 64 of 480 are usual"):
        FDConfig(streams=4, stream_length=0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(own_streams, "WINDOW", 4)
    monkeypatch.setattr(own_streams, "EVERY", 2)
    monkeypatch.setattr(own_streams, "ON", 3)
    return tmp_path


def config_in(folder: Path) -> RunConfig:
    network = UNetConfig(channels=1, dims=2, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16)
    clips = VideoModality(size=8, channels=1, frames=4)
    context = replace(CONTEXT_OF_TWO, noise=0.6, level=0.05)
    options: dict[str, Any] = {"modality": clips, "codec": NextFrameConfig(history=PAST), "context": context}
    start = ModelConfig(kind="consistency", network=network, **options).fitted()
    torch.manual_seed(0)
    save(start, start.build().net.state_dict(), folder / "start", "# a start\n")
    return RunConfig(
        recipe="fd",
        data=data_config("moving-fashion:test", modality="video", frames=4, size=8, limit=40),
        model=start,
        objective=FDConfig(representations=("pixels",), population=70, streams=3, stream_length=8, unbiased=False),
        init=str(folder / "start"),
        optimizer=AdamConfig(lr=3e-3),
        schedule=Schedule(warmup_steps=1),
        max_steps=6,
        batch_size=8,
        precision="bf16",
        sample_every="1000",
        checkpoint_every="1",
    )


@pytest.mark.parametrize("answering", [False, True])
def test_a_run_goes_on_with_the_streams_that_it_had(folder: Path, answering: bool) -> None:
    config, proceed = config_in(folder), Loop._one_step
    config = replace(config, objective=replace(config.objective, answering=answering))  # type: ignore[call-arg]
    done, said = run(config, folder / "whole")
    assert done
    assert said.count("making samples of the first weights") == 1
    stop_after(3)
    try:
        assert not run(config, folder / "parts")[0]
    finally:
        Loop._one_step = proceed  # type: ignore[method-assign]
    done, said = run(config, folder / "parts", resume=True)
    assert done
    assert "making samples" not in said  # they are in the checkpoint
    assert_same(folder / "parts", folder / "whole")
    other = replace(config, objective=replace(config.objective, streams=0, answering=False))  # type: ignore[call-arg]
    assert run(other, folder / "none")[0]
    losses = [[line["loss"] for line in metrics(folder / name) if "loss" in line] for name in ("whole", "none")]
    assert losses[0] != losses[1]


def shades(count: int = 5) -> Dataset:
    """Clips of one shade each that stand still; its action tells which."""
    shade = torch.arange(1, count + 1, dtype=torch.uint8)[:, None, None, None, None] * (255 // (count + 1))
    actions = (torch.arange(count).float() / count)[:, None, None].expand(-1, PAST + LENGTH, 1)
    stored = shade.expand(-1, -1, PAST + LENGTH, 4, 4).clone()
    return Dataset.from_tensors(stored, modality=CLIPS, fields={"action": FIELD}, action=Action(actions.clone()))


class Holds(Adds):
    """A student whose next frame is one shade of grey, whatever was before."""

    def __init__(self, grey: float) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, x: Tensor, t: Tensor, s: None, condition: Condition) -> Tensor:
        super().forward(x, t, s, condition)
        return torch.full_like(x, self.grey)


def test_those_who_answer_do_what_was_done_where_it_looked_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_streams, "WINDOW", 6)
    monkeypatch.setattr(own_streams, "ANSWERS", 2)
    data = shades()
    third = float(CLIPS.to_signal(data.batch([2])[0])[0, 0, 0, 0, 0]) * 0.5
    examples = Examples(CLIPS, CODEC.build(CLIPS.shape), CONTEXT_OF_TWO, 0.5, as_in_streams=True)
    for answering in (False, True):
        made = OwnStreams(examples, data, 20, LENGTH, seed=3, answering=answering)
        made.begin(Holds(third))  # type: ignore[arg-type]
        own, _, action = drawn(made)
        asked = {round(float(value), 2) for value in action[own]}
        assert own.float().mean() > 0.5
        assert asked == {0.4} if answering else len(asked) > 2


def test_moments_are_followed_by_enough_to_go_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_streams, "ANSWERS", 5)
    data = recordings()
    moments = own_streams._Moments.of(CODEC.build(CLIPS.shape), data, PAST, PAST + LENGTH)
    assert moments.looks.shape == (5 * (LENGTH - 5), 1 * 4 * 4)
    assert set(moments.next[:, 0].tolist()) == set(range(5))
    assert set(moments.next[:, 1].tolist()) == set(range(PAST + 1, PAST + LENGTH - 5 + 1))
    monkeypatch.setattr(own_streams, "MOMENTS", 2 * (LENGTH - 5) + 1)
    fewer = own_streams._Moments.of(CODEC.build(CLIPS.shape), data, PAST, PAST + LENGTH)
    assert set(fewer.next[:, 0].tolist()) == {0, 2}
    assert torch.equal(fewer.looks, torch.cat([moments.looks[:7], moments.looks[14:21]]))
