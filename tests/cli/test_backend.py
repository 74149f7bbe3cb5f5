"""``--backend``: who runs the network, and what is said where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cli.standins import save_stream
from unistep import registry
from unistep.backends.base import Backend, BackendPrecision
from unistep.backends.call import Call
from unistep.core.flowmap import NetworkCall


class Again(Backend):
    """A backend of the tests: a copy of the network."""

    name = "again"
    precisions = ("fp32", "int8")

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        return copy.deepcopy(net)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {kind: dict(known) for kind, known in registry._added.items()})
    registry.register("backend", "again", Again)


def test_sample_says_what_ran_the_network(run: Any) -> None:
    assert run("sample fashion -n 2 -o a.npz").code == 0
    outcome = run("sample fashion -n 2 --backend again --precision int8 -o b.npz")
    assert outcome.code == 0
    assert "int8 by again on cpu" in outcome.out
    assert "eager" in outcome.err  # the table of what was tried
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert np.abs(a["arr_0"].astype(int) - b["arr_0"]).max() <= 1


def test_stream_is_run_by_it_too(run: Any, tmp_path: Path) -> None:
    phrases = save_stream(tmp_path / "phrases")
    outcome = run("stream --seconds 0.25 --backend again -o a.wav", [str(phrases)])
    assert outcome.code == 0, outcome
    assert "again" in outcome.err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--backend onnx", "unknown backend 'onnx'; "),
        ("--precision int8", "--precision int8 needs a backend that has it: --backend onnxruntime or openvino"),
        ("--backend again --precision bf16", "the backend again has no bf16; it is in eager or compiled or openvino"),
        ("--backend again --shard-size 5 -o shards", "shards are drawn with PyTorch: leave out --backend again"),
    ],
)
def test_mistakes_are_one_line(words: str, line: str, run: Any, place: Path) -> None:
    outcome = run(f"sample fashion -n 1 {words}")
    assert outcome.code == 2
    assert outcome.err.startswith(f"unistep: error: {line}")
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []


def test_a_missing_extra_is_named_with_the_command_that_installs_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unistep.backends.base.find_spec", lambda name: None if name == "openvino" else object())
    outcome = run("sample fashion -n 1 --backend openvino")
    assert outcome.code == 2
    assert outcome.err == "unistep: error: --backend openvino needs openvino: pip install 'unistep[openvino]'\n"
