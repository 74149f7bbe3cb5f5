"""``torch.compile``: one program of the whole network, which a C++ compiler, or Triton on a GPU, makes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from unistep.backends.base import Backend, BackendError, BackendPrecision
from unistep.backends.call import Call
from unistep.backends.eager import WithPrecision
from unistep.core.flowmap import NetworkCall


class Compiled(Backend):
    """The compiled network; PyTorch keeps what it compiles in a cache of its own."""

    name = "compiled"
    precisions = ("fp32", "bf16")
    slow_to_prepare = True

    @classmethod
    def problem(cls, device: torch.device) -> str | None:
        """Why it cannot run: on a CPU there must be something to compile with."""
        if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            return "the backend compiled needs a C++ compiler, such as g++"
        return super().problem(device)

    def prepare(
        self, net: nn.Module, calls: Sequence[Call], precision: BackendPrecision, folder: Path, device: torch.device
    ) -> NetworkCall:
        """Compile, by a first call; see :meth:`Backend.prepare`."""
        del folder
        made = WithPrecision(torch.compile(net, dynamic=True), "bf16" if precision == "bf16" else "fp32", device)
        try:
            with torch.inference_mode():
                calls[0].run(made)
        except Exception as error:  # a compiler has errors of any kind
            raise BackendError(f"torch.compile failed: {str(error).strip().splitlines()[0]}") from error
        return made
