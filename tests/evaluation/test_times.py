"""The search of sampling times asks a model for what the data shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unistep.core.condition import Label, LabelField
from unistep.data import Dataset
from unistep.evaluation import times as module
from unistep.evaluation.times import best_times
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig

IMAGES = ImageModality(size=8, channels=1)


def model(kind: Any = "consistency") -> Generator:
    network = UNetConfig(dims=2, patch=2, widths=(8,), blocks=(1,), middle_blocks=1, head_dim=8, embedding_dim=16)
    config = ModelConfig(kind=kind, network=network, modality=IMAGES, fields={"label": LabelField(size=3)}).fitted()
    torch.manual_seed(0)
    return Generator(config.build(), config, "small")


def data() -> Dataset:
    """Twelve images of one class only."""
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fields = {"label": LabelField(size=3)}
    return Dataset.from_tensors(x, modality=IMAGES, fields=fields, label=Label(torch.full((12,), 2)))


def test_samples_have_the_conditions_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    sample = Generator.sample

    def watched(self: Generator, num: int | None = None, **options: Any) -> torch.Tensor:
        asked.append(options["label"].index.tolist())
        return sample(self, num, **options)

    monkeypatch.setattr(Generator, "sample", watched)
    # The less noise the last time adds, the better: what is found is the smallest of the candidates.
    monkeypatch.setattr(module, "quick_fd", lambda x, data, features: float(x.std()))
    tried: list[tuple[float, ...]] = []
    rounded = model().to("cpu", "bf16")
    tuned = best_times(rounded, 2, data=data(), num=10, levels=6, on_try=lambda times, _: tried.append(times))
    assert tuned.precision == "bf16"
    assert asked
    assert all(labels == [2] * 10 for labels in asked)
    times = tuned.config.times["2"]
    assert times in tried
    assert times[0] == tuned.config.path.t_max > times[1] > 0


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="steps must be at least 2, got 1"):
        best_times(model(), 1, data=data())
    with pytest.raises(ValueError, match="is a denoiser"):
        best_times(model("denoiser"), 2, data=data())
