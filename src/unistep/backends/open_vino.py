"""OpenVINO: the exported network in a program that Intel makes for CPUs of any maker."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unistep.backends.base import Backend, BackendError, BackendPrecision
from unistep.backends.call import Call
from unistep.backends.onnx_files import onnx_file
from unistep.backends.program import Program
from unistep.core.flowmap import NetworkCall


class OpenVino(Backend):
    """OpenVINO on the CPU."""

    name = "openvino"
    packages = ("openvino", "onnx", "onnxscript", "onnxruntime")
    extra = "openvino"
    precisions = ("fp32", "bf16", "int8")

    @classmethod
    def problem(cls, device: torch.device) -> str | None:
        """Why it cannot run: here it computes on the CPU only."""
        return "the backend openvino runs on the CPU" if device.type != "cpu" else super().problem(device)

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        """Export and compile; see :meth:`Backend.prepare`."""
        del device
        path = onnx_file(net, calls, folder, int8=precision == "int8")
        return Program(net, calls[0], CompiledModels(path, "bf16" if precision == "bf16" else "f32"))


class CompiledModels:
    """Runs an ONNX file with as many threads as PyTorch has when it is called.

    Args:
        path: The file.
        arithmetic: OpenVINO's name of it.

    Raises:
        BackendError: If the file cannot be run, or the CPU has no such arithmetic.
    """

    def __init__(self, path: Path, arithmetic: str) -> None:
        self._path, self._arithmetic = path, arithmetic
        self._models: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._requests = threading.local()  # a request has one set of buffers
        model = self._of(torch.get_num_threads())
        found = model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if arithmetic == "bf16" and found != "bf16":
            raise BackendError(f"openvino computes in {found} here: this CPU has no units for bfloat16")

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The output for inputs by name."""
        threads = torch.get_num_threads()
        known = self._requests.__dict__.setdefault("of", {})
        request = known.get(threads)
        if request is None:
            request = known[threads] = self._of(threads).create_infer_request()
        found = request.infer({name: tensor.numpy() for name, tensor in inputs.items()}, share_inputs=True)
        return torch.from_numpy(found[0])

    def _of(self, threads: int) -> Any:
        found = self._models.get(threads)
        if found is None:
            with self._lock:
                found = self._models[threads] = self._compiled(threads)
        return found

    def _compiled(self, threads: int) -> Any:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": self._arithmetic,
            "EXECUTION_MODE_HINT": "PERFORMANCE",
        }
        try:
            return openvino.Core().compile_model(str(self._path), "CPU", options)
        except Exception as error:  # the library has errors of its own kinds
            raise BackendError(f"openvino cannot load the network: {str(error).strip().splitlines()[0]}") from error
