"""What a backend must do: compute what the network computes, for every backend and one from outside the package."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts.condition_values import MAKE, Direction, Reader
from unistep import registry
from unistep.backends.base import Backend, BackendPrecision, backends
from unistep.backends.call import Call
from unistep.backends.trial import relative_error
from unistep.core.condition import Tokens
from unistep.core.flowmap import ConsistencyModel, NetworkCall
from unistep.core.path import VarianceExploding

CPU = torch.device("cpu")
ROUNDED = {"fp32": 1e-5, "bf16": 0.1, "int8": 0.3}
"""Float epsilon times the terms of a sum; 8 bits of mantissa, and 8 bits, through a few layers."""


class Doubled(Backend):
    """A backend that the package does not know: it computes in float64."""

    name = "doubled"

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        exact = copy.deepcopy(net).double()

        def run(x: Tensor, t: Tensor, s: Tensor | None, condition: Any) -> Tensor:
            return exact(x.double(), t.double(), s, condition).float()

        return run


@pytest.fixture(autouse=True)
def _with_one_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_added", {kind: dict(known) for kind, known in registry._added.items()})
    registry.register("backend", "doubled", Doubled)
    # Without a C++ compiler, and in no time: the graph that is compiled is the same.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return


NAMES = ("eager", "compiled", "onnxruntime", "openvino", "doubled")


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> type[Backend]:
    found = backends()[request.param]
    problem = found.problem(CPU)
    if problem is not None:
        pytest.skip(problem)
    return found


def call_of(kind: str, count: int, generator: torch.Generator) -> Call:
    x, t = torch.randn(count, 2, generator=generator), torch.rand(count, generator=generator)
    return Call(x, t, None, {"c": MAKE[kind](count, generator)})


def reader(kind: str) -> nn.Module:
    """A network of which a layer is neither the first nor the last, so that there is something to round."""
    torch.manual_seed(0)
    net = Reader(kind)
    net.body.insert(2, nn.Linear(16, 16))
    return net.eval().requires_grad_(False)


def test_every_backend_is_here() -> None:
    assert set(backends()) == set(NAMES)


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns about its own internals
def test_it_computes_what_the_network_does(backend: type[Backend], tmp_path: Path, generator: torch.Generator) -> None:
    net, call = reader("tokens"), call_of("tokens", 8, generator)
    text = call.condition["c"]
    padded = Tokens.concat([text, Tokens.whole(torch.zeros(1, 9, 2))]).select(slice(8))
    longer = Call(call.x, call.t, None, {"c": padded})
    assert longer.tensors()["c_tokens"].shape == (8, 9, 2)
    for precision in backend.precisions:
        if (backend.name, precision) == ("openvino", "bf16"):
            continue  # not every CPU has it
        made = backend().prepare(net, [call], precision, tmp_path, CPU)
        for one in (call, call.first(1), call.repeated(11), longer, call.unconditional()):
            with torch.inference_mode():
                got, wanted = one.run(made), one.run(net)
                assert (got.shape, got.dtype) == (wanted.shape, torch.float32 if precision != "bf16" else got.dtype)
                assert relative_error(got, wanted) < ROUNDED[precision]
        assert all(not path.name.startswith(".") for path in tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["scalar", "direction"])
def test_it_takes_any_value(kind: str, backend: type[Backend], tmp_path: Path, generator: torch.Generator) -> None:
    net = Reader(kind).eval().requires_grad_(False)
    call = Call(
        torch.randn(3, 2, generator=generator),
        torch.rand(3, generator=generator),
        None,
        {"c": MAKE[kind](3, generator)},
    )
    made = backend().prepare(net, [call], "fp32", tmp_path, CPU)
    for one in (call, call.unconditional(), call.repeated(5)):
        with torch.inference_mode():
            assert relative_error(one.run(made), one.run(net)) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_what_it_was_not_prepared_for_is_computed_all_the_same(
    backend: type[Backend], tmp_path: Path, generator: torch.Generator
) -> None:
    net, call = reader("direction"), call_of("direction", 3, generator)
    flow = ConsistencyModel(net, VarianceExploding())
    flow.runner = backend().prepare(net, [call], "fp32", tmp_path, CPU)
    x = torch.randn(4, 2, generator=generator, requires_grad=True)
    condition = {"c": Direction(torch.ones(4, 2))}
    flow(x, torch.ones(4), None, condition).sum().backward()  # gradients
    wanted = x.grad.clone() if x.grad is not None else None
    x.grad, flow.runner = None, None
    flow(x, torch.ones(4), None, condition).sum().backward()
    assert wanted is not None
    assert x.grad is not None
    torch.testing.assert_close(wanted, x.grad, rtol=1e-4, atol=1e-6)
    assert flow.state_dict().keys() == ConsistencyModel(net, VarianceExploding()).state_dict().keys()
