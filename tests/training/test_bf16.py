"""Training in bfloat16."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import checkpoint, metrics, run, run_config


@pytest.mark.parametrize("objective", ["denoising", "ect"])
def test_bf16_trains_with_weights_in_fp32(objective: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("unistep.training.loop.LOG_EVERY", 1)
    config = run_config(objective, tmp_path, max_steps=3, precision="bf16", checkpoint_every="100")
    done, text = run(config, tmp_path / "run")
    assert done
    assert "bf16 on cpu" in text
    assert all(math.isfinite(row["loss"]) and row["skipped"] == 0 for row in metrics(tmp_path / "run"))
    _, files, _ = checkpoint(tmp_path / "run")
    assert {value.dtype for file in files.values() for value in file.values()} == {torch.float32}
