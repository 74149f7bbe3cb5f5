"""A compiled network learns what the plain one learns, or is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import DEEP, run, run_config, steady
from torch import Tensor, nn

from unistep.core.timesteps import RatioCurriculum
from unistep.nets.blocks import depth_to_space, double, halve, space_to_depth
from unistep.objectives import ECTConfig, SCMConfig
from unistep.precision import WantedPrecision
from unistep.training import compiled
from unistep.training import resolve as resolve_module
from unistep.training import stage as stage_module


class WithoutGradient(torch.autograd.Function):
    """What a compiler with a wrong rule makes: the same value, and no derivative."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
        return torch.zeros_like(grad)


def test_a_compiler_that_loses_the_gradient_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def compile_wrongly(self: nn.Module) -> None:
        self.register_forward_hook(lambda module, inputs, out: WithoutGradient.apply(out))

    monkeypatch.setattr(nn.Module, "compile", compile_wrongly)
    config = run_config("denoising", tmp_path, max_steps=2, compile=True)
    with pytest.raises(ValueError, match=r"torch.compile gives another gradient here \(cosine 0.00, \d+ of \d+"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_rounding_does_is_not_held_against_the_compiler(
    precision: WantedPrecision, tmp_path: Path, monkeypatch
) -> None:
    own = torch.Generator().manual_seed(0)  # unlike dropout's, this differs from one branch of a loss to the other

    def round_otherwise(self: nn.Module) -> None:
        self.register_forward_hook(lambda net, inputs, x: x * (1 + 2**-7 * torch.randn(x.shape, generator=own)))

    # So near to each other the two answers of a consistency loss differ by less than they are rounded.
    near = ECTConfig(curriculum=RatioCurriculum(q=1e5, stages=1))
    config = run_config("ect", tmp_path, network=DEEP, max_steps=1, compile=True, precision=precision)
    config = replace(config, objective=near)
    monkeypatch.setattr(nn.Module, "compile", round_otherwise)
    with nullcontext() if precision == "bf16" else pytest.raises(ValueError, match="gives another gradient"):
        run(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, True),
        ({"max_steps": 10}, False),
        ({"auto_compile": False}, False),
        ({"compile": True}, False),
        ({"objective": SCMConfig()}, False),
        ({"objective": SCMConfig(derivative="finite")}, True),
    ],
)
def test_long_runs_are_worth_compiling(changes: dict[str, Any], wanted: bool, tmp_path: Path, monkeypatch) -> None:
    tried: list[float] = []

    def keep_if_faster(objective: object, train_step: object, optimizer: object, speed: float) -> float:
        tried.append(speed)
        raise ValueError("it was only a try")

    monkeypatch.setattr(resolve_module, "keep_if_faster", keep_if_faster)
    monkeypatch.setattr(compiled.shutil, "which", lambda name: name)
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    monkeypatch.setattr(stage_module.Loop, "run", lambda *_: True)
    config = run_config("sct" if "objective" in changes else "denoising", tmp_path, max_steps=8000)
    _, shown = run(replace(config, **changes), tmp_path / "run")
    assert tried == ([100.0] if wanted else [])
    assert ("not compiled: it was only a try" in shown) is wanted


@pytest.mark.parametrize(("speed", "kept"), [(10.0, True), (100.0, False)])
def test_a_compiled_network_stays_if_it_is_faster(speed: float, kept: bool, tmp_path: Path, monkeypatch) -> None:
    def compile_well(self: nn.Module) -> None:
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(nn.Module, "compile", compile_well)
    monkeypatch.setattr(compiled, "time_steps", steady(100))
    found: list[float] = []
    monkeypatch.setattr(resolve_module, "worth_compiling", lambda *_: True)
    monkeypatch.setattr(stage_module.Loop, "run", lambda *_: True)
    monkeypatch.setattr(
        resolve_module,
        "keep_if_faster",
        lambda objective, train_step, optimizer, _: (
            found.append(compiled.keep_if_faster(objective, train_step, optimizer, speed)) or found[-1]
        ),
    )
    run(run_config("denoising", tmp_path, max_steps=8000), tmp_path / "run")
    assert (found == [100.0]) is kept
    assert json.loads((tmp_path / "run" / "config.json").read_text())["compile"] is kept


def test_a_compiler_that_fails_leaves_the_network_as_it_was(tmp_path: Path, monkeypatch) -> None:
    def fail(self: nn.Module) -> None:
        raise RuntimeError("no compiler here\nand much more to read")

    monkeypatch.setattr(nn.Module, "compile", fail)
    monkeypatch.setattr(resolve_module, "worth_compiling", lambda *_: True)
    done, shown = run(run_config("denoising", tmp_path, max_steps=2), tmp_path / "run")
    assert done
    assert "not compiled: no compiler here\n" in shown


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_changes_of_resolution_have_their_derivative_when_compiled() -> None:
    """In one dimension and in two, in full precision and in half, by one run of the compiler."""

    def there_and_back(*signals: Tensor) -> list[Tensor]:
        return [depth_to_space(double(halve(space_to_depth(x, 2))), 2) for x in signals]

    signals = [torch.randn(2, 3, 8), torch.randn(2, 3, 8, 8, dtype=torch.bfloat16)]
    weights = [torch.randn_like(x) for x in signals]
    gradients = []
    for function in (there_and_back, torch.compile(there_and_back)):
        leaves = [x.clone().requires_grad_() for x in signals]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler warns about its own internals
            results = function(*leaves)
            torch.autograd.backward(results, weights)
        gradients.append([leaf.grad for leaf in leaves])
    for plain, compiled_one in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(compiled_one, plain, rtol=0.02, atol=0.02)


def test_more_forms_of_one_network_are_compiled_than_the_compiler_keeps_by_itself() -> None:
    forms = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        forms.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=2):
        compiled.allow_forms()
        twice = torch.compile(lambda x: 2 * x, backend=keep, dynamic=False)
        for size in range(2, 7):
            twice(torch.zeros(size))
    assert len(forms) == 5
