"""Models as ONNX files: noise and condition in, samples out, for programs without Python."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from unistep.backends.base import BackendError
from unistep.backends.call import tensors_of
from unistep.backends.onnx_files import export, quiet
from unistep.backends.onnx_runtime import session_of
from unistep.backends.quantize import quantize
from unistep.core.condition import encoded
from unistep.core.seeding import ItemGenerators, normal
from unistep.files import replacing
from unistep.generation.saving import model_hash
from unistep.hub.functions import ModelFunction, function_of
from unistep.provenance import TRAINED
from unistep.provenance.mark import PROGRAM, VOCABULARY

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

ExportPrecision = Literal["fp32", "fp16", "int8"]
"""How a file stores weights: as they are; in half, computed with in float32; or in 8 bits, computed with in 8 bits."""
TOLERANCE = 1e-4
"""Largest difference of a float32 file's outputs from PyTorch's, relative to the largest output."""
CALIBRATION = 16
"""Samples from which the ranges of 8-bit activations are taken."""
SMALL = 1024
"""Tensors of fewer values stay in float32."""
LARGEST = float(np.finfo(np.float16).max)
"""Tensors with larger values stay in float32."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written, and what was found of it."""

    path: Path
    """The file."""
    precision: ExportPrecision
    """How its weights are stored."""
    inputs: dict[str, list[Any]]
    """Shapes of the inputs by name; axes of any length have names."""
    outputs: dict[str, list[Any]]
    """Shapes of the outputs by name."""
    difference: float
    """Largest difference from PyTorch in float32, relative to the largest value of each output."""
    milliseconds: float
    """Time of one item in ONNX Runtime."""
    eager_milliseconds: float
    """Time of one item in PyTorch."""


def export_onnx(generator: Generator, path: Path, precision: ExportPrecision = "fp32", license: str = "") -> Exported:
    """Write a model's one-step function as an ONNX file, once ONNX Runtime has computed the same with it.

    Args:
        generator: A one-step model, on the CPU.
        path: The file; what lies there is replaced when the new one is complete.
        precision: How weights are stored.
        license: The licence of the weights, for the file to name.

    Raises:
        ValueError: If the model needs many steps, cannot be exported, the file cannot be written, or computes something
            else.
    """
    runner, generator.map.runner = generator.map.runner, None
    try:
        function = function_of(generator, CALIBRATION if precision == "int8" else 2)
        with replacing(path) as temporary:
            _write(function, temporary, precision)
            _describe(generator, function, temporary, precision, license)
            return _checked(function, temporary, path, precision)
    finally:
        generator.map.runner = runner


def _write(function: ModelFunction, path: Path, precision: ExportPrecision) -> None:
    inputs, axes = function.inputs(), function.axes()
    exact = path.with_name(f"{path.name}.fp32") if precision == "int8" else path
    try:
        export(function, inputs, axes, exact, function.outputs)
        if precision == "int8":
            with quiet():
                quantize(exact, path, [inputs], getattr(function.flow.net, "boundary_layers", ()))
        elif precision == "fp16":
            halve(path)
    finally:
        if exact != path:
            exact.unlink(missing_ok=True)


def halve(path: Path) -> None:
    """Store weights in half precision; they are widened when the file is loaded."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALL or np.abs(values).max() > LARGEST:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_widened", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))


def _describe(
    generator: Generator, function: ModelFunction, path: Path, precision: ExportPrecision, license: str
) -> None:
    """Write into the file what it is, as ONNX's metadata."""
    import onnx

    model = onnx.load(str(path))
    for node in model.graph.node:
        del node.metadata_props[:]  # modules of PyTorch, which nobody needs any more
    model.producer_name = PROGRAM
    model.doc_string = f"{generator.name}: a {generator.modality.noun} from noise in one step"
    config = generator.config
    known = {
        "model": generator.name,
        "model_sha256": model_hash(generator),
        "license": license,
        "digitalSourceType": VOCABULARY + TRAINED,
        "modality": generator.modality.noun,
        "sampling_time": f"{float(function.time[0]):g}",
        "precision": precision,
        "fields": json.dumps({name: field.choices for name, field in config.fields.items()}),
    }
    onnx.helper.set_model_props(model, {name: value for name, value in known.items() if value})
    onnx.save(model, str(path))


def _checked(function: ModelFunction, path: Path, name: Path, precision: ExportPrecision) -> Exported:
    """Compare and time a file."""
    inputs = function.inputs()
    with torch.inference_mode():
        session = session_of(path, torch.get_num_threads())
        apart = 0.0
        for rows in (slice(None), slice(0, 1)):
            part = {key: tensor[rows] for key, tensor in inputs.items()}
            expected = as_tuple(function(*part.values()))
            found = session.run(None, arrays(part))
            for x, reference in zip(found, expected, strict=True):
                apart = max(apart, difference(torch.from_numpy(x), reference))
        if precision == "fp32" and not apart <= TOLERANCE:
            raise BackendError(f"{name} is not written: it would differ from PyTorch by {apart:.1e}")
        one = {key: tensor[:1] for key, tensor in inputs.items()}
        times = _times([lambda: session.run(None, arrays(one)), lambda: function(*one.values())])
    sides = (session.get_inputs(), session.get_outputs())
    shapes = [{value.name: list(value.shape) for value in side} for side in sides]
    return Exported(
        path=name,
        precision=precision,
        inputs=shapes[0],
        outputs=shapes[1],
        difference=apart,
        milliseconds=times[0],
        eager_milliseconds=times[1],
    )


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as ONNX Runtime takes them."""
    return {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a function returns, as several outputs."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def difference(x: Tensor, expected: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest value of the second."""
    largest = float((x - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    return float("inf") if largest != largest else largest


def _times(calls: list[Callable[[], object]], rounds: int = 15) -> list[float]:
    """Median milliseconds of calls that take turns."""
    found: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 2):
        for call, kept in zip(calls, found, strict=True):
            began = time.perf_counter()
            call()
            if number >= 2:
                kept.append(1000 * (time.perf_counter() - began))
    return [sorted(kept)[len(kept) // 2] for kept in found]


class OnnxSampler:
    """Samples of an exported file as an evaluation takes them, or of its model where there is no file.

    Args:
        generator: The model, which is no stream.
        path: The file.
    """

    kind = "function"
    guidance: float | None = None

    def __init__(self, generator: Generator, path: Path | None = None) -> None:
        self.name = generator.name if path is None else path.name
        self._generator = generator
        self._session: Any = None if path is None else session_of(path, torch.get_num_threads())

    def network_calls(self, steps: int | None = None, solver: Any = None, guidance: float | None = None) -> int:
        """One."""
        del steps, solver, guidance
        return 1

    def sample(self, num: int = 1, *, seed: int = 0, batch_size: int = 64, **rest: Any) -> Tensor:
        """Samples in one step; item ``i`` belongs to ``seed + i``."""
        del rest
        generator = self._generator
        if self._session is None:
            return generator.sample(num, seed=seed, steps=1, batch_size=batch_size)
        pieces = []
        for start in range(seed, seed + num, batch_size):
            seeds = list(range(start, min(start + batch_size, seed + num)))
            condition = encoded(generator.completed({}, seeds), generator.codec.encode_reference)
            inputs = {"noise": normal((len(seeds), *generator.shape), ItemGenerators(seeds)), **tensors_of(condition)}
            pieces.append(torch.from_numpy(self._session.run(None, arrays(inputs))[0]))
        return torch.cat(pieces)
