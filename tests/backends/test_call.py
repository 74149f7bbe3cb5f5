"""A network call as tensors with names, and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from contracts.condition_values import MAKE, Reader
from unistep.backends.call import Call, Recorder, TensorNetwork
from unistep.core.condition import Label, Tokens, concat


def call_of(kind: str, count: int, generator: torch.Generator, s: torch.Tensor | None = None) -> Call:
    x, t = torch.randn(count, 2, generator=generator), torch.rand(count, generator=generator)
    return Call(x, t, s, {"c": MAKE[kind](count, generator)})


@pytest.mark.parametrize("kind", MAKE)
def test_tensors_there_and_back(kind: str, generator: torch.Generator) -> None:
    call = call_of(kind, 3, generator, torch.rand(3, generator=generator))
    tensors = call.tensors()
    assert list(tensors)[:3] == ["x", "t", "s"]
    assert len(call.axes()) == len(tensors) == 3 + len(call.condition["c"].tensors)
    again = call.with_tensors([tensor + 0 for tensor in tensors.values()])
    assert type(again.condition["c"]) is type(call.condition["c"])
    assert all(torch.equal(a, b) for a, b in zip(again.tensors().values(), tensors.values(), strict=True))
    assert again.form == call.form
    net = Reader(kind)
    torch.testing.assert_close(TensorNetwork(net, call)(*tensors.values()), call.run(net))


@pytest.mark.parametrize("kind", MAKE)
def test_the_form_is_that_of_a_batch_of_any_size(kind: str, generator: torch.Generator) -> None:
    call = call_of(kind, 4, generator)
    assert call.first(1).form == call.repeated(7).form == call.unconditional().form == call.form
    assert len(call.repeated(7)) == 7
    assert torch.equal(call.repeated(7).x[4:], call.x[:3])
    others = [other for other in MAKE if other != kind]
    assert all(call_of(other, 4, generator).form != call.form for other in others)
    assert Call(call.x, call.t, call.t, call.condition).form != call.form
    assert Call(call.x[:, :1], call.t, None, call.condition).form != call.form


def test_sequences_of_any_length_have_one_form_and_name_that_axis() -> None:
    x, t = torch.zeros(2, 2), torch.zeros(2)
    short, long = (Call(x, t, None, {"text": Tokens.whole(torch.ones(2, n, 5))}) for n in (3, 9))
    assert short.form == long.form
    assert short.axes()[2:] == [{0: "batch", 1: "text_length"}] * 2
    other = Call(x, t, None, {"text": Tokens.whole(torch.ones(2, 3, 6))})
    assert other.form != short.form


def test_what_is_recorded_are_copies_and_no_more_than_were_asked_for() -> None:
    recorder = Recorder(nn.Identity(), 2)
    recorder._net = lambda x, t, s, condition: x + 1
    with torch.inference_mode():
        for number in range(3):
            x = torch.full((2, 1), float(number))
            out = recorder(x, torch.zeros(2), None, {"label": Label(torch.arange(2))})
            assert torch.equal(out, torch.full((2, 1), number + 1.0))
            x.zero_()
    assert [float(call.x[0]) for call in recorder.calls] == [0, 1]
    assert not recorder.calls[0].x.is_inference()
    assert len(concat([recorder.calls[0].condition, recorder.calls[1].condition])["label"]) == 4
