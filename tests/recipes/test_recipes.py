"""Recipes: named, documented, complete, and each trains."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from unistep.data import DataConfig
from unistep.generation.model_config import KINDS, ModelConfig
from unistep.hub import load, save
from unistep.modalities.audio import AudioModality
from unistep.objectives import DriftingConfig, IMMConfig
from unistep.recipes import recipes
from unistep.training import log, plan
from unistep.training.run import train

NAMES = list(recipes())


def picture_archive(path: Path) -> DataConfig:
    """24 pictures of 8 by 8 in two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    np.savez(path, arr_0=pixels, arr_1=np.arange(24) % 2)
    return DataConfig(source=f"npz:{path}")


def sound_folder(folder: Path) -> DataConfig:
    """8 sounds in two classes."""
    for i in range(8):
        place = folder / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{i}.wav", np.random.default_rng(i).normal(size=3_000) * 0.1, 8_000)
    return DataConfig(source=f"folder:{folder}")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_states_what_it_needs(name: str) -> None:
    recipe = recipes()[name]
    config = recipe()
    assert config.recipe == name
    assert config == recipe()
    text = recipe.__doc__ or ""
    for word in ("Data:", "Needs a teacher:", "Paper:"):
        assert word in text, f"{name} does not say {word}"
    assert re.search(r"arXiv \d{4}\.\d{5}", text)
    assert ("Needs a teacher: yes" in text) == (config.teacher is not None or config.objective.starts_from_teacher)
    assert (config.model.kind == "denoiser") == name.endswith("teacher")
    assert config.objective.trains is KINDS[config.model.kind]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_on_ones_own_data(name: str, tmp_path: Path, monkeypatch) -> None:
    """With its own objective, optimizer, schedule and averages, around a small network."""
    monkeypatch.setattr(plan, "TIMING_SECONDS", 1e-6)
    monkeypatch.setattr(log, "_event_writer", lambda folder, start: None)
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    config = recipes()[name]()
    sounds = isinstance(config.model.modality, AudioModality)
    own = sound_folder(tmp_path / "mine") if sounds else picture_archive(tmp_path / "data.npz")
    data = replace(config.data, source=own.source) if sounds else own
    network = replace(config.model.network, widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16)
    config = replace(
        config,
        data=data,
        model=replace(config.model, network=network),
        max_steps=2,
        batch_size=8,
        precision="fp32",
    )
    if isinstance(config.objective, DriftingConfig):
        config = replace(config, objective=replace(config.objective, group=4))
    if isinstance(config.objective, IMMConfig):
        config = replace(config, objective=replace(config.objective, particles=4))
    if config.teacher is not None:
        channels = network.channels if sounds else 3
        teacher_network = replace(network, channels=channels, num_classes=2, dropout=0.0, second_time=False)
        kind = next(kind for kind, made in KINDS.items() if made is config.objective.teacher_kind)
        teacher = ModelConfig(kind=kind, network=teacher_network, modality=config.model.modality)
        save(teacher, teacher.build().net.state_dict(), tmp_path / "teacher", "")
        config = replace(config, teacher=str(tmp_path / "teacher"))
    assert train(config, tmp_path / "run", device="cpu", console=Console(quiet=True))
    g = load(tmp_path / "run")
    assert g.sample(2, label=1).shape == (2, *g.signal_shape)
    seconds = config.data.seconds or 1
    assert g.signal_shape == ((1, round(16_000 * seconds)) if sounds else (3, 8, 8))
    assert g.config.provenance["recipe"] == name
