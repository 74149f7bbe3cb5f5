"""A stream: endless, the same for the same seed, playable, and made of one network call a chunk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cli.standins import save_instrument, save_stream
from unistep.core.condition import CONTEXT, ScalarField
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.hub import load


@pytest.fixture(scope="module")
def g(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load(save_stream(tmp_path_factory.mktemp("stream") / "phrases"))


def play(g: Generator, count: int, **told: Any) -> Tensor:
    """The beginning of a stream, ``[c, n]``."""
    return torch.cat(list(itertools.islice(g.stream(**told), count)), dim=-1)


class Watched(nn.Module):
    """A network, with what it was told in each call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.told = net, list[dict[str, Any]]()

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: dict[str, Tensor]) -> Tensor:
        self.told.append(dict(condition))
        return self.net(x, t, s, condition)


@pytest.fixture
def watched(g: Generator) -> Iterator[list[dict[str, Any]]]:
    net = Watched(g.map.net)
    g.map.net = net
    yield net.told
    g.map.net = net.net


def test_a_stream_belongs_to_its_seed_and_a_sample_is_its_beginning(g: Generator) -> None:
    x = play(g, 5, seed=7, instrument="harp")
    assert x.shape == (1, 5 * 512)
    assert x.dtype == torch.float32
    assert not x.is_inference()
    assert x.std() > 0
    assert torch.equal(x, play(g, 5, seed=7, instrument="harp"))
    assert not torch.allclose(x, play(g, 5, seed=8, instrument="harp"), atol=1e-2)
    both = g.sample(3, seed=6, instrument="harp")
    assert both.shape == (3, 1, 1_024)
    assert torch.allclose(both[1], x[:, :1_024], atol=1e-5)


def test_each_chunk_is_one_call_that_is_shown_the_last(g: Generator, watched: list[dict[str, Any]]) -> None:
    play(g, 4)
    assert len(watched) == 4
    frames = g.config.context.frames  # type: ignore[union-attr]
    for number, told in enumerate(watched):
        assert told[CONTEXT].signal.shape == (1, *g.shape[:-1], frames)
        assert bool(told[CONTEXT].signal.any()) == (number > 0)
        assert bool(told[CONTEXT].level.isnan()) == (number == 0)


def test_what_is_not_told_is_drawn_once_or_for_each_chunk(g: Generator, watched: list[dict[str, Any]]) -> None:
    play(g, 12, seed=3)
    instruments, pitches = ({int(told[name].index) for told in watched} for name in ("instrument", "pitch"))
    assert len(instruments) == 1
    assert len(pitches) > 3
    first = [int(told["pitch"].index) for told in watched]
    play(g, 12, seed=3, instrument="flute")
    assert [int(told["pitch"].index) for told in watched[12:]] == first
    assert {int(told["instrument"].index) for told in watched[12:]} == {5}


def test_a_condition_may_be_a_value_a_row_of_them_or_a_function(g: Generator, watched: list[dict[str, Any]]) -> None:
    assert play(g, 9, pitch=["C4", "E4", "G4"]).shape == (1, 3 * 512)  # it ends with its notes
    assert [int(told["pitch"].index) for told in watched] == [5, 7, 8]
    play(g, 4, pitch=itertools.cycle(["C4", "E4"]), instrument="piano")
    assert [int(told["pitch"].index) for told in watched[3:]] == [5, 7, 5, 7]
    play(g, 4, pitch=lambda number: ("C3", "D3")[number % 2])
    assert [int(told["pitch"].index) for told in watched[7:]] == [0, 1, 0, 1]


def test_seams_are_heard_no_more_than_what_lies_between(g: Generator) -> None:
    """Whatever a network makes, the frames overlap: no sample jumps where a chunk ends."""
    x = play(g, 40)[0]
    jumps = x.diff().abs()
    seams = jumps[511::512]
    assert seams.mean() < 1.3 * jumps.mean()


def test_mistakes_are_named_before_the_first_chunk(g: Generator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="makes samples by themselves, no stream"):
        load(save_instrument(tmp_path / "notes")).stream()
    with pytest.raises(ValueError, match="no condition 'tempo'"):
        g.stream(tempo=3)
    with pytest.raises(ValueError, match="no condition 'tempo'"):
        g.stream(tempo=[3])
    with pytest.raises(ValueError, match="did you mean 'flute'"):
        g.stream(instrument="flut")
    with pytest.raises(ValueError, match="seed must be from 0"):
        g.stream(seed=-1)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        g.stream(steps=0)
    chunks = g.stream(pitch=["C4", "H4"])
    next(chunks)
    with pytest.raises(ValueError, match=r"pitch must be .*, got 'H4'"):
        next(chunks)


def test_a_model_whose_parts_disagree_is_refused(g: Generator) -> None:
    config = vars(g.config)
    for wrong, words in (
        ({"context": None}, "must be shown the 0 frames of context, not 8"),
        ({"network": g.config.network.__class__(channels=2)}, "must be shown the 8 frames of context, not 0"),
    ):
        with pytest.raises(ValueError, match=words):
            ModelConfig(**{**config, **wrong})


@pytest.mark.parametrize("steps", [1, 3])
def test_a_sample_is_two_chunks_and_so_are_its_calls(g: Generator, watched: list[dict[str, Any]], steps: int) -> None:
    g.sample(2, steps=steps)
    assert len(watched) == g.network_calls(steps) == 2 * steps


def test_a_wish_of_no_kind_is_refused(g: Generator) -> None:
    with pytest.raises(ValueError, match="a condition is a number, a text, several of them or a function, got <object"):
        next(g.stream(pitch=object()))  # type: ignore[arg-type]


def test_a_mistake_in_a_schedule_is_no_end_of_the_stream(g: Generator) -> None:
    notes = [60, 62]
    stream = g.stream(pitch=lambda number: notes[number])
    assert len(list(itertools.islice(stream, 2))) == 2
    with pytest.raises(IndexError):
        next(stream)


def test_a_weight_that_is_a_condition_belongs_to_each_step(g: Generator) -> None:
    fields = {**g.config.fields, "guidance": ScalarField(low=1, high=4, default=1.5)}
    weighted = Generator(g.map, replace(g.config, fields=fields), codec=g.codec)
    with pytest.raises(ValueError, match="give it to each step"):
        weighted.session(guidance=2.0)
