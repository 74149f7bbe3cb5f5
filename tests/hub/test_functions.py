"""One-step functions of models: what a sample and the step of a stream are, from tensors alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.standins import save_instrument, save_stream
from contracts.test_sessions import world
from unistep.backends.call import tensors_of
from unistep.core.flowmap import FlowMap
from unistep.core.path import VarianceExploding
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.generation.generator import Generator
from unistep.hub import load
from unistep.hub.functions import StreamFunction, function_of


@pytest.fixture
def in_real_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that an exporter sees, which has operators that every program knows."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)


@pytest.mark.usefixtures("in_real_numbers")
def test_a_note_is_what_the_model_makes_of_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load(save_instrument(tmp_path / "notes"))
    seeds = [3, 4, 5]
    condition = generator.completed({}, seeds)
    noise = normal((3, *generator.shape), ItemGenerators(seeds))
    function = function_of(generator)
    assert list(function.inputs()) == ["noise", "instrument", "pitch", "velocity"]
    with torch.inference_mode():
        found = function(noise, *tensors_of(condition).values())
    monkeypatch.undo()
    wanted = generator.sample(seed=seeds, steps=1)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("in_real_numbers")
@pytest.mark.parametrize("kind", ["frames", "sound"])
def test_steps_of_a_stream_are_those_of_its_session(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator: Generator = world() if kind == "frames" else load(save_stream(tmp_path / "phrases"))
    function = function_of(generator)
    assert isinstance(function, StreamFunction)
    assert ("tail" in function.inputs()) == (kind == "sound")
    assert len(function.axes()) == len(function.inputs())
    assert generator.config.context is not None
    session = generator.session(steps=1)
    state, past, tail = session.start([7]), None, None
    for number in range(3):
        items = ItemGenerators([derived_seed("chunk", 7, number)])
        noise = normal((1, *generator.shape), items)
        recent = generator.codec.recent(state.past, generator.config.context.frames)
        context_noise = normal(recent.shape, items) if number else torch.zeros_like(recent)
        completed = tensors_of(session._completed([7], [number], {}))
        past, tail = (state.past, state.tail) if past is None else (past, tail)
        assert tail is not None
        with torch.inference_mode():
            rest = ([tail] if kind == "sound" else []) + list(completed.values())
            chunk, past, *after = function(noise, context_noise, torch.tensor([number]), past, *rest)
        tail = after[0] if after else tail
        with monkeypatch.context() as plain:
            plain.setattr(torch.compiler, "is_exporting", lambda: False)
            state, wanted = session.step(state)
        torch.testing.assert_close(chunk, wanted, rtol=0, atol=2e-5)
        torch.testing.assert_close(past, state.past, rtol=1e-4, atol=1e-5)


def test_a_teacher_has_no_such_function(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teacher needs many network calls for a sample"):
        function_of(load(save_instrument(tmp_path / "teacher", "denoiser")))


def test_a_model_of_several_phases_has_no_such_function() -> None:
    """One jump over all of its phases was never trained."""
    pictures = load("fashion")
    config = replace(pictures.config, kind="flow_map", steps=4)
    phased = Generator(FlowMap(pictures.map.net, VarianceExploding()), config)
    with pytest.raises(ValueError, match="samples in 4 steps"):
        function_of(phased)
