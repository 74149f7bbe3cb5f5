"""Endless sound through the whole of training: every method, stop, resume, play."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import METHODS, PATHS, TAUGHT, assert_same, run
from worker import stop_after

from unistep.codecs.spectrum import SpectrumConfig
from unistep.core.condition import LabelField
from unistep.core.path import VarianceExploding
from unistep.data import data_config
from unistep.generation.history import Context
from unistep.generation.model_config import KINDS, ModelConfig
from unistep.hub import load
from unistep.modalities.audio import AudioModality
from unistep.nets.unet import UNetConfig
from unistep.training.loop import Loop
from unistep.training.optim import Schedule
from unistep.training.run_config import RunConfig

CONTEXT = Context(frames=4, missing=0.2)
NETWORK = UNetConfig(
    dims=1,
    patch=1,
    widths=(16, 32),
    embedding_dim=32,
    head_dim=16,
    dropout=0.1,
    position_sizes=(32,),
    context=4,
    gated_skip=True,
)
CHUNKS = AudioModality(samples=512)
SPECTRA = SpectrumConfig(n_fft=64, hop=32, dims=1, multiple=2, chunk=8)
MODEL = ModelConfig(kind="denoiser", network=NETWORK, modality=CHUNKS, codec=SPECTRA, context=CONTEXT, steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two long recordings in two classes."""
    folder = tmp_path_factory.mktemp("streams")
    for i, label in enumerate(("rain", "sea")):
        (folder / "mine" / label).mkdir(parents=True)
        noise = np.random.default_rng(i).normal(size=8_000) * 0.1
        soundfile.write(folder / "mine" / label / "long.wav", noise, 8_000)
    return folder


def stream_config(folder: Path, **changes: Any) -> RunConfig:
    """A denoiser of chunks of 32 ms."""
    source = f"folder:{folder / 'mine'}"
    settings: dict[str, Any] = {
        "recipe": "tiny-stream",
        "data": data_config(source, modality="audio", seconds=0.064, sample_rate=8_000, cut="windows"),
        "model": ModelConfig(
            kind="denoiser", network=NETWORK, modality=CHUNKS, codec=SPECTRA, context=CONTEXT, steps=4
        ),
        "objective": METHODS["denoising"],
        "schedule": Schedule(warmup_steps=3),
        "max_steps": 8,
        "batch_size": 8,
        "precision": "fp32",
        "checkpoint_every": "4",
        "sample_every": "8",
    }
    return RunConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def teacher(folder: Path) -> Path:
    """A finished run."""
    assert run(stream_config(folder), folder / "whole")[0]
    return folder / "whole"


def test_the_model_takes_its_chunks_from_the_data_and_plays(teacher: Path) -> None:
    g = load(teacher)
    assert g.modality == replace(CHUNKS, sample_rate=8_000)
    assert replace(g.config.codec, scale=SPECTRA.scale) == SPECTRA  # type: ignore[type-var]
    assert g.config.network.context == 4
    assert g.config.fields == {"label": LabelField(size=2, names=("rain", "sea"))}
    x = torch.cat(list(itertools.islice(g.stream(label="sea"), 6)), dim=-1)
    assert x.shape == (1, 6 * 256)
    assert g.sample(2).shape == (2, 1, 512)
    assert (teacher / "samples" / "00000008.wav").is_file()


def test_a_stopped_run_goes_on_to_the_last_bit(teacher: Path, folder: Path) -> None:
    proceed = Loop._one_step
    stop_after(3)
    try:
        assert not run(stream_config(folder), folder / "stopped")[0]
    finally:
        Loop._one_step = proceed  # type: ignore[method-assign]
    assert run(stream_config(folder), folder / "stopped", resume=True)[0]
    assert_same(folder / "stopped", teacher)


def test_parts_of_a_batch_are_shown_what_the_whole_would_be(teacher: Path, folder: Path) -> None:
    """Noise on the context too is one draw for the batch."""
    network = replace(NETWORK, dropout=0.0)
    model = replace(stream_config(folder).model, network=network)
    weights = []
    for parts in (1, 4):
        config = stream_config(folder, model=model, accumulation=parts, max_steps=2)
        assert run(config, folder / f"parts-{parts}")[0]
        weights.append(load(folder / f"parts-{parts}").map.net.state_dict())
    difference = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    assert difference < 0.02 * 2 * 3e-3  # of what two steps at the peak rate can move a weight


ONE_OF_EACH = {type(config): name for name, config in METHODS.items() if name not in ("denoising", "fd")}
"""The last variant of each method that trains on chunks (features of post-training are those of whole sounds)."""


@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_every_method_makes_a_stream(name: str, teacher: Path, folder: Path) -> None:
    kind = next(kind for kind, made in KINDS.items() if made is METHODS[name].trains)
    if name == "tcm":
        first = folder / "first"
        if not first.exists():
            student = replace(stream_config(folder).model, kind="consistency", steps=1)
            config = stream_config(folder, model=student, objective=METHODS["ict"], max_steps=1)
            assert run(config, first)[0]
        teacher = first
    network = replace(NETWORK, second_time=kind == "flow_map" and not name.startswith("pcm"))
    model = replace(
        stream_config(folder).model, kind=kind, network=network, steps=1, path=PATHS.get(name, VarianceExploding()),
        boundary=0.002 if name in ("ict", "ct", "ctm", "ctm-gan", "ctm-balanced", "ctm-self") else 0.0,
    )  # fmt: skip
    told = str(teacher) if name in TAUGHT else None
    config = stream_config(folder, model=model, objective=METHODS[name], teacher=told, max_steps=1)
    assert run(config, folder / name)[0]
    x = torch.cat(list(itertools.islice(load(folder / name).stream(label=0), 3)), dim=-1)
    assert x.isfinite().all()


def test_a_stream_can_be_post_trained(teacher: Path, folder: Path) -> None:
    model = replace(stream_config(folder).model, kind="consistency", steps=1)
    config = stream_config(folder, model=model, objective=METHODS["fd"], init=str(teacher), max_steps=1)
    assert run(config, folder / "fd")[0]


def test_sounds_that_are_not_two_chunks_are_refused(folder: Path, tmp_path: Path) -> None:
    config = stream_config(folder)
    longer = replace(config.data, options=replace(config.data.options, seconds=0.125))
    with pytest.raises(ValueError, match=r"not two chunks of whole frames; use --data.seconds 0.128"):
        run(replace(config, data=longer), tmp_path / "run")
