"""Streams as values: whoever steps together, each stream is what it is alone; and nothing in them is about audio."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cli.standins import save_stream
from contracts.outside_stream import DifferencesConfig, FollowingConfig
from unistep.codecs.base import CodecConfig
from unistep.codecs.identity import IdentityConfig
from unistep.codecs.next_frame import NextFrameConfig
from unistep.core.action_fields import ActionField
from unistep.core.condition import LabelField
from unistep.generation.generator import Generator
from unistep.generation.history import Context
from unistep.generation.model_config import ModelConfig
from unistep.generation.requests import Request
from unistep.generation.session import StreamState
from unistep.hub import load
from unistep.modalities.tensor import TensorModality
from unistep.modalities.video import VideoModality
from unistep.nets.config import NetworkConfig
from unistep.nets.unet import UNetConfig

UNET = UNetConfig(dims=2, patch=1, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16, context=4)


def frames_model(network: NetworkConfig, codec: CodecConfig) -> Generator:
    """A model of frames along the last axis of tensors, with random weights: 2 channels of 6 rows, 8 frames a chunk."""
    config = ModelConfig(
        kind="consistency",
        network=network,
        modality=TensorModality(shape=(2, 6, 16)),
        codec=codec,
        context=Context(frames=4, changing=("label",)),
        fields={"label": LabelField(size=5)},
        steps=2,
    ).fitted()
    return disturbed(config, "frames")


def disturbed(config: ModelConfig, name: str) -> Generator:
    """A model with random weights, none of them zero."""
    torch.manual_seed(0)
    model = config.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return Generator(model, config, name)


def world() -> Generator:
    """A model of the next frame of 8 x 8 pixels from the last 3, of which it looks at 2, with random weights."""
    config = ModelConfig(
        kind="consistency",
        network=UNetConfig(dims=2, patch=2, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16),
        modality=VideoModality(size=8, channels=3, frames=5, fps=10),
        codec=NextFrameConfig(history=3),
        context=Context(frames=2),
        fields={"label": LabelField(size=5), "action": ActionField(names=("go",), low=(0,), high=(1,))},
        steps=2,
    ).fitted()
    return disturbed(config, "world")


@pytest.fixture(scope="module", params=["audio", "frames of tensors", "outside", "world"])
def g(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    if request.param == "audio":
        return load(save_stream(tmp_path_factory.mktemp("stream") / "phrases"))
    if request.param == "world":
        return world()
    if request.param == "outside":
        return frames_model(FollowingConfig(), DifferencesConfig(chunk=8))
    return frames_model(UNET, IdentityConfig(chunk=8, bounded=False, scale=0.5))


def alone(g: Generator, seed: int, count: int) -> Tensor:
    """The first chunks of one stream, stepped by itself."""
    session = g.session()
    state, chunks = session.start([seed]), []
    for _ in range(count):
        state, chunk = session.step(state)
        chunks.append(chunk)
    return torch.cat(chunks)


def test_four_sessions_begun_at_different_moments_step_as_one_batch(g: Generator) -> None:
    """One more joins before each step; the second leaves in the middle, and goes on elsewhere."""
    session, seeds, made = g.session(), [3, 11, 7, 2**62], dict[int, list[Tensor]]()
    states: dict[int, StreamState] = {}
    left = session.start([11])
    for moment in range(6):
        if moment < 4:
            states[seeds[moment]] = session.start([seeds[moment]])
        if moment == 4:
            left = states.pop(11)
        batch, chunks = session.step(StreamState.stack(list(states.values())))
        states = dict(zip(states, batch.unstack(), strict=True))
        for seed, chunk in zip(states, chunks, strict=True):
            made.setdefault(seed, []).append(chunk)
    _, chunk = g.session().step(left)
    made[11].append(chunk[0])
    assert [len(made[seed]) for seed in seeds] == [6, 4, 4, 3]
    for seed, chunks in made.items():
        assert (torch.stack(chunks) - alone(g, seed, len(chunks))).abs().max() < 1e-5


def test_a_stream_is_its_session_and_a_sample_its_beginning(g: Generator) -> None:
    stream = g.stream(seed=5)
    chunks = torch.stack([next(stream) for _ in range(3)])
    assert torch.equal(chunks, alone(g, 5, 3))
    whole = [next(again)[None] for again in [g.stream(seed=5)] for _ in range(g.chunks)]
    assert torch.equal(g.sample(seed=5), g.codec.join(whole))
    assert tuple(g.sample(seed=5).shape[1:]) == g.modality.shape
    assert chunks.shape[1:] == g.config.chunk.shape


def test_a_state_is_tensors_only_and_stepping_leaves_it_as_it_was(g: Generator, tmp_path: Path) -> None:
    session = g.session()
    state, _ = session.step(session.start([1, 2]))
    tensors = {field.name: getattr(state, field.name) for field in fields(state)}
    assert all(isinstance(value, Tensor) and not value.is_inference() for value in tensors.values())
    torch.save(tensors, tmp_path / "state.pt")
    once, twice = session.step(state)[1], session.step(state)[1]
    assert torch.equal(once, twice)
    stored = StreamState(**torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(session.step(stored)[1], once)


def test_each_stream_of_a_batch_has_its_own_condition(g: Generator) -> None:
    session, field = g.session(), "label" if "label" in g.config.fields else "instrument"
    start = session.start([4, 5, 6])
    _, given = session.step(start, {field: [1, None, 2]})
    for row, (seed, value) in enumerate(((4, 1), (5, None), (6, 2))):
        _, one = session.step(session.start([seed]), {field: value})
        assert (given[row] - one[0]).abs().max() < 1e-5
    with pytest.raises(ValueError, match="2 values for 3 samples"):
        session.step(start, {field: [1, 2]})
    with pytest.raises(ValueError, match="no condition 'tempo'"):
        session.step(start, {"tempo": 1})


def test_mistakes_are_named(g: Generator) -> None:
    with pytest.raises(ValueError, match="needs one seed or more"):
        g.session().start([])
    with pytest.raises(ValueError, match="seed must be from 0"):
        g.session().start([-1])
    with pytest.raises(ValueError, match="seed must be a whole number"):
        g.session().start([1.5])  # type: ignore[list-item]
    assert g.session().start(torch.tensor([3, 4])).seed.tolist() == [3, 4]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        g.session(steps=0)


def test_a_stream_goes_on_from_a_clip_that_is_given() -> None:
    g = world()
    session, clip = g.session(), torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    state = session.start([1, 2], clip)
    assert torch.equal(state.past, clip[:, :, 1:].transpose(1, 2).flatten(1, 2))
    after, frames = session.step(state)
    assert torch.equal(after.past[:, :6], state.past[:, 3:])
    assert torch.equal(after.past[:, 6:].clamp(-1, 1), frames[:, :, 0])
    again = next(g.stream(seed=2, past=clip[1]))
    assert (again - frames[1]).abs().max() < 1e-5
    still = session.start([1, 2], clip[:1, :, :1])  # shorter than the history: nothing has moved
    assert torch.equal(still.past, clip[:1, :, 0].repeat(2, 3, 1, 1))
    of_clips = r"goes on from clips \[3, frames, 8, 8\], got one of shape "
    for wrong, message in (
        (clip[:, :, :, :4], of_clips + r"\[3, 4, 4, 8\]"),
        (clip[:, :1], of_clips + r"\[1, 4, 8, 8\]"),
        (clip[:, :, :0], of_clips + r"\[3, 0, 8, 8\]"),
        (clip[:, :, 0], of_clips + r"\[3, 8, 8\]"),
        (torch.cat([clip, clip]), "4 signals for 2 streams"),
        ((127.5 * clip + 127.5).to(torch.uint8), "finite floats in .-1, 1., got torch.uint8"),
        (clip / 0, "finite floats"),
        (clip.tolist(), "finite floats in .-1, 1., got list"),
    ):
        with pytest.raises(ValueError, match=message):
            session.start([1, 2], wrong)
    with pytest.raises(ValueError, match=of_clips):  # at the call, not at the first frame
        g.stream(past=clip[0, :, 0])
    with pytest.raises(ValueError, match="got list"):
        g.stream(past=clip[0].tolist())
    with pytest.raises(ValueError, match="begin from nothing"):
        frames_model(UNET, IdentityConfig(chunk=8, bounded=False)).session().start([1], torch.zeros(1, 2, 6, 8))


def test_a_sample_has_an_action_for_each_of_its_frames() -> None:
    """Of more it takes the first; fewer are refused, in place of a shorter sample."""
    g, pressed = world(), torch.rand(9, 1, generator=torch.Generator().manual_seed(0))
    chunks = torch.cat(list(g.stream(seed=3, label=1, action=pressed[:5])), dim=1)
    assert chunks.shape == (3, 5, 8, 8)
    for count in (5, 9):
        assert (g.sample(1, seed=3, label=1, action=pressed[:count])[0] - chunks).abs().max() < 1e-5
    for count in (4, 0):
        with pytest.raises(ValueError, match=f"action has {count} frames, and a sample of world 5"):
            g.sample(1, seed=3, action=pressed[:count])
    # Requests that give other fields, or one action for all frames, are what they are alone.
    asked: list[dict[str, Any]] = [{}, {"action": pressed[:7]}, {"label": 1, "action": pressed[:5]}]
    asked.append({"action": torch.ones(1)})
    made = g.sample_requests([Request(seed=i, condition=given) for i, given in enumerate(asked)])
    for i, given in enumerate(asked):
        assert (made[i] - g.sample(1, seed=i, **given)[0]).abs().max() < 1e-5, given
    assert (made[0] - g.sample(1, seed=0, action=torch.ones(1))[0]).abs().max() > 1e-3  # which actions change


def test_a_step_takes_the_action_of_one_frame() -> None:
    session = world().session()
    state = session.start([1, 2])
    for wrong, frames in ((torch.zeros(2, 1), 2), ([torch.zeros(4, 1)] * 2, 4)):
        with pytest.raises(ValueError, match=f"action has {frames} frames, and a step makes one"):
            session.step(state, {"action": wrong})
    _, frames = session.step(state, {"action": list(torch.tensor([[0.0], [1.0]]))})
    assert frames.shape == (2, 3, 1, 8, 8)
    for one in (torch.tensor([[1.0]]), [torch.tensor([[1.0]])] * 2, torch.tensor([1.0])):
        assert torch.equal(session.step(state, {"action": one})[1][1], frames[1])


def test_what_a_stream_remembers_does_not_grow() -> None:
    g = world()
    session = g.session()
    state = session.start([1])
    sizes = set()
    for _ in range(12):
        state, _ = session.step(state)
        sizes.add(sum(getattr(state, field.name).numel() for field in fields(state)))
    assert len(sizes) == 1
    assert state.number.tolist() == [12]


def test_an_action_decides_the_frame_and_nothing_of_another_stream() -> None:
    g = world()
    session = g.session()
    state, _ = session.step(session.start([1, 1]))
    _, frames = session.step(state, {"action": ["none", "1"]})
    _, same = session.step(state, {"action": ["none", "none"]})
    assert torch.equal(same[0], same[1])
    assert torch.equal(frames[0], same[0])
    assert (frames[1] - frames[0]).abs().max() > 1e-3


def test_the_actions_of_a_clip_are_taken_frame_by_frame_and_end_a_stream() -> None:
    g = world()
    actions = torch.tensor([[0.0], [1], [0], [1], [1]])
    frames = torch.stack(list(g.stream(seed=3, action=actions)))
    assert len(frames) == 5
    one_by_one = g.stream(seed=3, action=[str(float(action)) for action in actions])
    assert torch.equal(frames, torch.stack(list(one_by_one)))
    assert torch.equal(g.sample(seed=3, action=actions)[0], torch.cat(list(frames), dim=1))
