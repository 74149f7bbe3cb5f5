"""Averaged weights that are not finite never become a model, nor a checkpoint in the place of one that is whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import checkpoint, run, run_config

from unistep.hub import load
from unistep.training.health import TrainingStoppedError
from unistep.training.loop import Loop
from unistep.training.step import Gradient

REMEDY = r"In another --out, try a lower learning rate or --precision fp32$"


def break_weights(monkeypatch, step: int, value: float = math.nan, *, stop: bool = False) -> None:
    """Let one weight and its averages be ``value`` from ``step`` on, as a step that overflows leaves them."""
    proceed = Loop._one_step

    def stepped(self: Loop) -> Gradient:
        gradient = proceed(self)
        if self.step == step:
            with torch.no_grad():
                next(self.objective.student.net.parameters()).view(-1)[0] = value
                for ema in self.state.emas:
                    ema.average[0].view(-1)[0] = value
            gradient = replace(gradient, stop=stop)
        return gradient

    monkeypatch.setattr(Loop, "_one_step", stepped)


def files(out: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_model_is_made_of_them(value: float, tmp_path: Path, monkeypatch) -> None:
    break_weights(monkeypatch, 6, value)
    config, out = run_config("denoising", tmp_path, max_steps=6), tmp_path / "run"
    message = (
        r"^after step 6, 1 of the [\d,]+ averaged weights are not finite, so that no model is written; there is no "
        rf"checkpoint yet\. {REMEDY}"
    )
    with pytest.raises(TrainingStoppedError, match=message):
        run(config, out)
    assert not (out / "model").exists()
    assert not list((out / "checkpoints").iterdir())


@pytest.mark.parametrize(("step", "stop"), [(6, False), (4, True), (4, False)], ids=["end", "Ctrl-C", "on the way"])
def test_the_model_and_the_checkpoints_before_stay(step: int, stop: bool, tmp_path: Path, monkeypatch) -> None:
    """Also on the way: an average does not recover."""
    break_weights(monkeypatch, step, stop=stop)
    config, out = run_config("denoising", tmp_path, max_steps=6, checkpoint_every="1"), tmp_path / "run"
    with pytest.raises(TrainingStoppedError, match=rf"after step {step}, .*; the checkpoint of step {step - 1} is who"):
        run(config, out)
    assert [int(path.name) for path in sorted((out / "checkpoints").glob("[0-9]*"))] == [step - 2, step - 1]
    assert all(value.isfinite().all() for file in checkpoint(out)[1].values() for value in file.values())
    model = load(out)
    assert model.config.provenance["steps"] == str(step - 1)
    assert all(value.isfinite().all() for value in model.map.net.state_dict().values())


def test_a_checkpoint_that_has_them_already_is_kept_and_makes_no_model(tmp_path: Path) -> None:
    """Earlier versions wrote such checkpoints."""
    config, out = run_config("denoising", tmp_path, max_steps=6, keep=1), tmp_path / "run"
    assert run(config, out)[0]
    average = out / "checkpoints" / "00000006" / "power-0.1.safetensors"
    tensors = load_file(average)
    tensors["0"].view(-1)[0] = math.nan
    save_file(tensors, average)
    before = files(out)
    with pytest.raises(TrainingStoppedError, match=rf"step 6, 1 of .*; its checkpoint holds them, too\. {REMEDY}"):
        run(config, out, resume=True)
    now = files(out)
    changed = {name for name in before if before[name] != now.get(name)}
    assert not {name for name in changed if "/checkpoints/" in name or "/model/" in name}
    assert json.loads((out / "config.json").read_text())["max_steps"] == 6
