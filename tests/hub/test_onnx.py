"""Models as ONNX files: the same function in another program, named and described, or no file at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli.standins import save_instrument
from contracts.test_sessions import world
from exports import exported_once, pictures
from unistep.hub import load
from unistep.hub.functions import function_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from unistep.hub.onnx import OnnxSampler, export_onnx  # noqa: E402


@pytest.fixture(autouse=True)
def _exported_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's file is the same in each precision, and in the tests of the page, but for what is done with it."""
    monkeypatch.setattr("unistep.hub.onnx.export", exported_once(tmp_path_factory))


def test_pictures_in_three_precisions(tmp_path: Path) -> None:
    generator = pictures()
    wanted = generator.sample(5, seed=2)
    sizes, errors = {}, {}
    for precision in ("fp32", "fp16", "int8"):
        path = tmp_path / f"{precision}.onnx"
        found = export_onnx(generator, path, precision, "mit")
        assert found.inputs == {"noise": ["batch", 3, 8, 8], "label": ["batch"], "size": ["batch"]}
        assert found.outputs["sample"][1:] == [3, 8, 8]
        assert found.milliseconds > 0
        sizes[precision] = path.stat().st_size
        errors[precision] = float((OnnxSampler(generator, path).sample(5, seed=2, batch_size=3) - wanted).abs().max())
        assert b"site-packages" not in path.read_bytes()
        known = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        assert known["license"] == "mit"
        assert known["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
        assert known["sampling_time"] == "80"
        assert known["precision"] == precision
        assert "a" in json.loads(known["fields"])["label"]
    assert errors["fp32"] < 1e-4
    assert errors["fp32"] < errors["fp16"] < 0.02  # ten bits of mantissa
    assert errors["int8"] > errors["fp32"]
    assert sizes["fp16"] < 0.75 * sizes["fp32"]
    assert {path.name for path in tmp_path.iterdir()} == {"fp32.onnx", "fp16.onnx", "int8.onnx"}


def test_the_step_of_a_world(tmp_path: Path) -> None:
    generator = world()
    found = export_onnx(generator, tmp_path / "world.onnx")
    assert list(found.inputs) == ["noise", "context_noise", "number", "past", "label", "action"]
    assert list(found.outputs) == ["chunk", "next_past"]
    assert found.inputs["past"] == ["batch", 9, 8, 8]
    assert found.difference < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "world.onnx"))
    function = function_of(generator)
    one = {name: tensor[1:2] for name, tensor in function.inputs().items()}
    with torch.inference_mode():
        wanted = function(*one.values())
    got = session.run(None, {name: tensor.numpy() for name, tensor in one.items()})
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), b, rtol=1e-4, atol=1e-4)


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unistep.hub.onnx.difference", lambda x, expected: 0.5)
    monkeypatch.setattr("unistep.hub.onnx.export", _something)
    (tmp_path / "a.onnx").write_text("what was there")
    with pytest.raises(ValueError, match=r"a\.onnx is not written: it would differ from PyTorch by 5\.0e-01"):
        export_onnx(pictures(), tmp_path / "a.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["what was there"]


def _something(module: torch.nn.Module, inputs: dict, axes: list, path: Path, outputs: tuple) -> None:
    """Write a small file with the same names: the first input as it is."""
    helper = onnx.helper
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(tensor.numpy().dtype), ["batch", *tensor.shape[1:]]
        )
        for name, tensor in inputs.items()
    ]
    result = helper.make_tensor_value_info(outputs[0], 1, None)
    node = helper.make_node("Identity", [values[0].name], [outputs[0]])
    model = helper.make_model(
        helper.make_graph([node], "g", values, [result]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, str(path))


def test_a_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="export a student of it"):
        export_onnx(load(save_instrument(tmp_path / "teacher", "denoiser")), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()
