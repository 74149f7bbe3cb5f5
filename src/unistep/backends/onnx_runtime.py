"""ONNX Runtime: the exported network in a program of its own."""

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


class OnnxRuntime(Backend):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx", "onnxscript")
    extra = "onnx"
    precisions = ("fp32", "int8")

    @classmethod
    def problem(cls, device: torch.device) -> str | None:
        """Why it cannot run: here it computes on the CPU only."""
        return "the backend onnxruntime runs on the CPU" if device.type != "cpu" else super().problem(device)

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        """Export and load; see :meth:`Backend.prepare`."""
        del device
        return Program(net, calls[0], OnnxSessions(onnx_file(net, calls, folder, int8=precision == "int8")))


class OnnxSessions:
    """Runs an ONNX file with as many threads as PyTorch has when it is called.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._of(torch.get_num_threads())

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The output for inputs by name."""
        session = self._of(torch.get_num_threads())
        return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0])

    def _of(self, threads: int) -> Any:
        found = self._sessions.get(threads)
        if found is None:
            with self._lock:
                found = self._sessions[threads] = session_of(self._path, threads)
        return found


def session_of(path: Path, threads: int) -> Any:
    """ONNX Runtime's session of a file on the CPU.

    Args:
        path: The file.
        threads: Threads of one operator.

    Raises:
        BackendError: If it cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has errors of its own kinds
        raise BackendError(f"onnxruntime cannot load the network: {str(error).strip().splitlines()[0]}") from error
