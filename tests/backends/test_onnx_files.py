"""Files of exported networks in a cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from unistep.backends import onnx_files
from unistep.backends.base import BackendError
from unistep.backends.call import Call


def test_a_damaged_file_is_a_backend_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime.quantization")
    monkeypatch.setattr(onnx_files, "_versions", lambda: ("a", "b"))
    monkeypatch.setattr(onnx_files, "export", lambda *arguments: arguments[-1].write_bytes(b"half of a file"))
    call = Call(torch.zeros(2, 3), torch.zeros(2), None, {})
    with pytest.raises(BackendError, match="cannot be had in 8 bits"):
        onnx_files.onnx_file(nn.Identity(), [call], tmp_path, int8=True)
    assert [path.suffix for path in tmp_path.iterdir()] == [".onnx"]  # and nothing half-written beside it
