"""Backends of a generator: what is chosen, what is refused, and that samples stay what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts.test_sessions import UNET, world
from unistep import registry
from unistep.backends.base import Backend, BackendError, BackendPrecision
from unistep.backends.call import Call
from unistep.core.condition import LabelField
from unistep.core.flowmap import ConsistencyModel, NetworkCall
from unistep.core.path import VarianceExploding
from unistep.generation.generator import Generator
from unistep.modalities.tensor import TensorModality


class Scaled(Backend):
    """A backend of the tests: what the network computes, times a factor that depends on the arithmetic."""

    name = "scaled"
    precisions = ("fp32", "bf16", "int8")
    factors: dict[str, float] = {"fp32": 1.0, "bf16": 1.01, "int8": 1.2}  # noqa: RUF012
    prepared: list[str] = []  # noqa: RUF012

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        self.prepared.append(precision)
        assert all(call.form == calls[0].form and len(call) > 1 for call in calls)

        def run(x: Tensor, t: Tensor, s: Tensor | None, condition: Any) -> Tensor:
            return self.factors[precision] * net(x, t, s, condition)

        return run


class Broken(Backend):
    """A backend that can nothing."""

    name = "broken"

    def prepare(self, *_: Any) -> NetworkCall:
        raise BackendError("no such luck")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_added", {kind: dict(known) for kind, known in registry._added.items()})
    registry.register("backend", "scaled", Scaled)
    registry.register("backend", "broken", Broken)
    monkeypatch.setattr(Scaled, "prepared", [])


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    net = replace(UNET, context=0, channels=1, num_classes=3).build()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    flow = ConsistencyModel(net, VarianceExploding())
    return Generator(flow, modality=TensorModality(shape=(1, 8, 8)), fields={"label": LabelField(size=3)})


@pytest.fixture
def without_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backends that the package brings need no extra here: they are quick to try then."""
    for name in ("onnxruntime", "openvino", "compiled"):
        made = registry.lookup("backend", name)
        monkeypatch.setattr(made, "problem", classmethod(lambda cls, device: f"no {cls.name}"))


@pytest.mark.usefixtures("without_others")
def test_the_fastest_of_those_that_agree_is_chosen(generator: Generator) -> None:
    before = generator.sample(3, seed=2)
    found = generator.accelerate()
    assert [one.backend for one in found.trials] == ["eager", "scaled", "broken"]
    assert {one.precision for one in found.trials} == {"fp32"}
    assert found.trials[0].error == 0
    assert found.trials[2].problem == "no such luck"
    timed = [one for one in found.trials if not one.problem]
    assert all(one.milliseconds > 0 for one in timed)
    assert found.chosen == min(timed, key=lambda one: one.milliseconds)
    assert generator.acceleration is found
    text = str(found)
    assert text.splitlines()[0].split() == ["backend", "precision", "ms", "error"]
    assert text.count("chosen") == 1
    assert "no such luck" in text
    torch.testing.assert_close(generator.sample(3, seed=2), before)


@pytest.mark.usefixtures("without_others")
def test_rounded_arithmetic_is_used_where_it_is_asked_for(generator: Generator) -> None:
    generator.accelerate()
    assert Scaled.prepared == ["fp32"]
    found = generator.accelerate("scaled", "bf16")
    assert (found.chosen.backend, found.chosen.precision) == ("scaled", "bf16")
    assert found.chosen.error == pytest.approx(0.01, rel=0.01)
    assert "bf16 by scaled" in repr(generator)
    generator.accelerate("scaled", tolerance=0.05)
    assert Scaled.prepared[2:] == ["fp32", "bf16", "int8"]
    assert generator.acceleration is not None
    assert "above the tolerance 0.05" in generator.acceleration.trials[-1].problem


@pytest.mark.usefixtures("without_others")
def test_samples_streams_and_edits_go_through_the_backend(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = generator.sample(2)
    edited = generator.edit("vary", x, strength=0.5, steps=2)
    monkeypatch.setitem(Scaled.factors, "fp32", 1.0005)
    generator.accelerate("scaled")
    for before, after in ((x, generator.sample(2)), (edited, generator.edit("vary", x, strength=0.5, steps=2))):
        assert 0 < float((before - after).abs().max()) < 1e-2
    stream = world()
    chunk = next(stream.stream(seed=3))
    stream.accelerate("scaled")
    assert 0 < float((next(stream.stream(seed=3)) - chunk).abs().max()) < 1e-2
    generator.to("cpu")
    assert generator.acceleration is None
    torch.testing.assert_close(generator.sample(2), x)


@pytest.mark.usefixtures("without_others")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "onnx"}, "unknown backend 'onnx'; did you mean 'onnxruntime'?|unknown backend 'onnx'; valid"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; valid: auto, bf16, fp32, int8"),
        ({"backend": "broken"}, "broken cannot run the network in fp32: no such luck"),
        ({"backend": "broken", "precision": "int8"}, "the backend broken has no int8; it is in"),
        ({"backend": "openvino"}, "no openvino"),
        ({"tolerance": -1.0}, "tolerance must be a number above 0, such as 0.05, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"backend": "scaled", "precision": "int8", "tolerance": 0.1}, "its error 0.2 is above the tolerance 0.1"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(
    arguments: dict[str, Any], message: str, generator: Generator
) -> None:
    x = generator.sample(1)
    with pytest.raises(ValueError, match=message) as caught:
        generator.accelerate(**arguments)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(generator.sample(1), x)


@pytest.mark.usefixtures("without_others")
def test_what_ran_a_network_still_does_after_a_mistake(generator: Generator) -> None:
    generator.to("cpu", "bf16")
    with pytest.raises(ValueError, match="no such luck"):
        generator.accelerate("broken")
    assert (generator.arithmetic, generator.precision) == ("bf16", "bf16")
    before = generator.accelerate("scaled")
    x = generator.sample(1)
    with pytest.raises(ValueError, match="no such luck"):
        generator.accelerate("broken")
    assert generator.acceleration is before
    torch.testing.assert_close(generator.sample(1), x)


def test_a_missing_package_is_named_with_what_installs_it(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unistep.backends.base.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"the backend openvino needs openvino, .*: pip install 'unistep\[openvino\]'"):
        generator.accelerate("openvino")
    assert {one.backend for one in generator.accelerate().trials} == {"eager", "scaled", "broken"}


def test_an_exported_network_is_kept_and_runs_a_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = world()
    before = model.sample(2, steps=2, label=[1, None])
    found = model.accelerate("onnxruntime")
    torch.testing.assert_close(model.sample(2, steps=2, label=[1, None]), before, rtol=1e-4, atol=1e-5)
    (file,) = (tmp_path / "cache" / "backends").glob("*/*.onnx")
    made = file.stat().st_mtime_ns
    monkeypatch.setattr("unistep.backends.onnx_files.export", lambda *_: pytest.fail("exported again"))
    assert world().accelerate("onnxruntime").chosen.backend == found.chosen.backend == "onnxruntime"
    assert file.stat().st_mtime_ns == made
