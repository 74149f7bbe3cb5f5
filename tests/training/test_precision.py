"""Which arithmetic is chosen on which hardware, and that bf16 trains."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import checkpoint, metrics, run, run_config

from unistep.training.precision import autocast, has_fast_bf16, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("amx", "avx512", "fast"), [(True, False, True), (False, True, True), (False, False, False)])
def test_processors_with_bf16_units(amx: bool, avx512: bool, fast: bool, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert has_fast_bf16(CPU) is fast
    assert resolve_precision("auto", CPU) == ("bf16" if fast else "fp32")


def test_no_answer_is_no(monkeypatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert has_fast_bf16(CPU) is False
    assert has_fast_bf16(torch.device("mps")) is False


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_from_ampere_on(capability: tuple[int, int], fast: bool, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_fast_bf16(CUDA) is fast


def test_a_choice_is_respected() -> None:
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    with autocast("bf16", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("objective", ["denoising", "ect"])
def test_bf16_trains_with_weights_in_fp32(objective: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("unistep.training.trainer.LOG_EVERY", 1)
    config = run_config(objective, tmp_path, max_steps=3, precision="bf16", checkpoint_every="100")
    done, text = run(config, tmp_path / "run")
    assert done
    assert "bf16 on cpu" in text
    assert all(math.isfinite(row["loss"]) and row["skipped"] == 0 for row in metrics(tmp_path / "run"))
    _, files, _ = checkpoint(tmp_path / "run")
    assert {value.dtype for file in files.values() for value in file.values()} == {torch.float32}
