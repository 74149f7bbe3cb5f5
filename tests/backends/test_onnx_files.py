"""Files of exported networks in a cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from unistep.backends import onnx_files
from unistep.backends.base import BackendError
from unistep.backends.call import Call


def test_what_cannot_be_quantized_is_a_backend_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime.quantization")
    monkeypatch.setattr(onnx_files, "_versions", lambda: ("a", "b"))
    monkeypatch.setattr(onnx_files, "export", lambda *arguments: arguments[-1].write_bytes(b"half of a file"))
    call = Call(torch.zeros(2, 3), torch.zeros(2), None, {})
    with pytest.raises(BackendError, match="cannot be had in 8 bits"):
        onnx_files.onnx_file(nn.Identity(), [call], tmp_path, int8=True)
    # And nothing is half-written beside it.
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".blake2b", ".onnx"]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def without_sum(path: Path) -> None:
    path.with_name(f"{path.name}.blake2b").unlink()


def broken_sum(path: Path) -> None:
    path.with_name(f"{path.name}.blake2b").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("harm", [cut_off, changed, without_sum, broken_sum, Path.unlink])
def test_a_file_that_is_not_as_it_was_made_is_made_anew(harm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def export(*arguments) -> None:
        made.append(arguments[-1].name)
        arguments[-1].write_bytes(b"the network")

    def quantize(exact: Path, path: Path, *_: object) -> None:
        assert exact.read_bytes() == b"the network"
        made.append(path.name)
        path.write_bytes(b"the network in 8 bits")

    monkeypatch.setattr(onnx_files, "_versions", lambda: ("a", "b"))
    monkeypatch.setattr(onnx_files, "export", export)
    monkeypatch.setattr(onnx_files, "quantize", quantize)
    call = Call(torch.zeros(2, 3), torch.zeros(2), None, {})

    def file(*, int8: bool) -> Path:
        return onnx_files.onnx_file(nn.Identity(), [call], tmp_path, int8=int8)

    for int8, content in ((False, b"the network"), (True, b"the network in 8 bits")):
        path = file(int8=int8)
        before = len(made)
        assert file(int8=int8) == path
        assert len(made) == before  # it is kept
        harm(path)
        assert file(int8=int8) == path
        assert path.read_bytes() == content
        assert len(made) == before + 1


def test_the_same_weights_in_another_network_are_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "_versions", lambda: ("a", "b"))
    monkeypatch.setattr(onnx_files, "export", lambda *arguments: arguments[-1].write_bytes(b"the network"))
    call = Call(torch.zeros(2, 3), torch.zeros(2), None, {})
    networks = (nn.ReLU(), nn.SiLU(), nn.SiLU())
    first, second, same = (onnx_files.onnx_file(net, [call], tmp_path) for net in networks)
    assert first != second == same


def test_half_of_a_file_that_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_files, "_versions", lambda: ("a", "b"))
    monkeypatch.setattr(onnx_files, "export", lambda *arguments: arguments[-1].write_bytes(b"the network"))
    old, young = tmp_path / ".x.onnx.1.tmp.onnx", tmp_path / ".y.onnx.2.tmp.onnx"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    onnx_files.onnx_file(nn.Identity(), [Call(torch.zeros(2, 3), torch.zeros(2), None, {})], tmp_path)
    assert not old.exists()
    assert young.exists()  # another process may be writing it
