"""Noise levels of a method's recipe follow the size of the signals, unless they are given."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unistep.cli.train import resolve_options
from unistep.data import Dataset
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.drifting import DriftingConfig
from unistep.objectives.ect import ECTConfig
from unistep.recipes import recipe
from unistep.training.parallel import World
from unistep.training.resolve import Session, resolve
from unistep.training.run_config import RunConfig


def resolved(config: RunConfig, size: int, out: Path) -> tuple[RunConfig, dict[str, str]]:
    data = Dataset.from_tensors(torch.zeros(4, 1, size, size), modality=ImageModality(size=size, channels=1))
    found = resolve(config, data, Session(out=out, world=World()))
    return found.config, found.reasons


def tiny() -> RunConfig:
    config = recipe("denoising", "fashion-mnist:test", max_steps=1, batch_size=2, precision="fp32", auto=("noise",))
    network = replace(config.model.network, widths=(8,), blocks=(1,), attention=(), head_dim=8)  # type: ignore[call-arg]
    return replace(config, model=replace(config.model, network=network))


@pytest.mark.parametrize(("size", "shift"), [(16, 0.0), (32, 0.0), (64, math.log(2)), (128, math.log(4))])
def test_the_mean_grows_with_the_logarithm_of_the_size(size: int, shift: float) -> None:
    images = ImageModality(size=size, channels=3)
    assert images.noise_shift(images.shape) == pytest.approx(shift)
    assert AudioModality(sample_rate=8_000, samples=8_000).noise_shift((1, 8_000)) == 0


@pytest.mark.parametrize("config", [DenoisingConfig(), ECTConfig()])
def test_only_the_mean_changes(config: DenoisingConfig | ECTConfig) -> None:
    noisier = config.noisier(0.5)
    assert noisier.times.mean == config.times.mean + 0.5
    assert replace(noisier, times=config.times) == config
    assert DriftingConfig().noisier(0.5) == DriftingConfig()  # whose levels are no draw from a distribution


def test_a_run_has_it_once_and_says_so(tmp_path: Path) -> None:
    config, reasons = resolved(tiny(), 64, tmp_path)
    assert config.objective.times.mean == pytest.approx(-1.2 + math.log(2))  # type: ignore[attr-defined]
    assert "2 times as much" in reasons["noise"]
    assert resolved(config, 64, tmp_path)[0].objective == config.objective
    small, said = resolved(tiny(), 28, tmp_path)
    assert small.objective == DenoisingConfig()
    assert "noise" not in said


def test_levels_of_a_persons_own_stay(tmp_path: Path) -> None:
    made = recipe("denoising", "fashion-mnist:test")
    assert "noise" in made.auto
    given = resolve_options(made, made, ["--objective.times.mean", "-1"])
    assert "noise" not in given.auto
    own = replace(tiny(), auto=())
    assert resolved(own, 64, tmp_path)[0].objective == own.objective
