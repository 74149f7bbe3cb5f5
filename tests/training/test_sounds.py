"""Sounds through the whole of training: the notes that ship, a small network, stop, resume, sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import assert_same, make_data, run, run_config
from worker import stop_after

from unistep.cli.evaluation_data import data_for
from unistep.codecs.spectrum import SpectrumConfig
from unistep.core.condition import LabelField, ScalarField
from unistep.core.timesteps import RatioCurriculum
from unistep.data import DataConfig, data_config, prepare
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.hub import load
from unistep.modalities.audio import AudioModality
from unistep.nets.unet import UNetConfig
from unistep.objectives import DenoisingConfig, ECTConfig
from unistep.provenance import read_file
from unistep.training.build import fit_model_to_data, fit_model_to_start
from unistep.training.loop import Loop
from unistep.training.optim import Schedule
from unistep.training.preflight import start_warnings
from unistep.training.run_config import RunConfig

NETWORK = UNetConfig(patch=8, widths=(16, 32), blocks=(1, 1), embedding_dim=32, head_dim=16, dropout=0.1)


def sound_config(**changes: Any) -> RunConfig:
    """A denoiser of an eighth of a second of the notes that ship."""
    settings: dict[str, Any] = {
        "recipe": "tiny-notes",
        "data": data_config("notes:excerpt", seconds=0.125, sample_rate=8_000, loudness="keep"),  # as notes are anyway
        "model": ModelConfig(
            kind="denoiser", network=NETWORK, modality=AudioModality(), codec=SpectrumConfig(n_fft=64, hop=32), steps=4
        ),
        "objective": DenoisingConfig(label_dropout=0.2),
        "schedule": Schedule(warmup_steps=3),
        "max_steps": 8,
        "batch_size": 8,
        "precision": "fp32",
        "checkpoint_every": "4",
        "sample_every": "8",
    }
    return RunConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("notes")
    done, text = run(sound_config(), folder / "whole")
    assert done
    assert "16 sounds of 0.125 s, 8,000 Hz, mono, each with instrument, pitch, velocity" in text
    return folder / "whole"


def test_the_model_takes_its_shape_and_its_conditions_from_the_sounds(teacher: Path) -> None:
    g = load(teacher)
    assert g.modality == AudioModality(sample_rate=8_000, samples=1_000, channels=1)
    assert replace(g.config.codec, scale=8.0) == SpectrumConfig(n_fft=64, hop=32, scale=8.0, multiple=16)  # type: ignore[type-var]
    assert list(g.config.fields) == ["instrument", "pitch", "velocity"]
    assert isinstance(g.config.fields["instrument"], LabelField)
    assert g.config.fields["velocity"] == ScalarField(low=32, high=127, default=96)
    assert g.config.network.vocabularies == {"instrument": 10, "pitch": 37}
    assert g.config.network.scalars == {"velocity": 127}


def test_a_stopped_run_goes_on_to_the_last_bit(teacher: Path, tmp_path: Path, monkeypatch) -> None:
    proceed = Loop._one_step
    stop_after(3)
    try:
        assert not run(sound_config(), tmp_path / "stopped")[0]
    finally:
        Loop._one_step = proceed  # type: ignore[method-assign]
    done, text = run(sound_config(), tmp_path / "stopped", resume=True)
    assert done
    assert "going on after step 3" in text
    assert_same(tmp_path / "stopped", teacher)


def test_previews_are_pictures_and_sounds(teacher: Path) -> None:
    assert sorted(path.name for path in (teacher / "samples").iterdir()) == ["00000008.png", "00000008.wav"]
    for path in (teacher / "samples").iterdir():
        mark = read_file(path).mark
        assert mark is not None
        assert mark.generated
        assert mark.model.endswith("after 8 steps")
    info = soundfile.info(teacher / "samples" / "00000008.wav")
    assert (info.samplerate, info.frames) == (8_000, 9 * 1_000 + 8 * 2_000)


def test_the_licence_of_the_sounds_is_in_the_card(teacher: Path) -> None:
    assert load(teacher).config.provenance["data licence"].startswith("MIT (FluidR3 GM")
    assert "- data licence: MIT (FluidR3 GM" in (teacher / "model" / "README.md").read_text()


def test_a_model_says_by_which_rules_its_data_came_about(teacher: Path) -> None:
    g = load(teacher)
    assert g.config.provenance["data options"] == '{"options": {"loudness": "keep", "type": "audio"}}'
    assert (
        data_for(g, None).options
        == data_config("x", seconds=0.125, sample_rate=8_000, channels=1, loudness="keep").options
    )


def test_a_sample_is_a_waveform_that_belongs_to_its_seed(teacher: Path, tmp_path: Path) -> None:
    g = load(teacher)
    x = g.sample(5, seed=3, instrument="piano", pitch="C4", velocity=100)
    assert tuple(x.shape) == (5, 1, 1_000)
    assert x.abs().max() <= 1
    assert x.std() > 0
    alone = g.sample(1, seed=5, instrument=0, pitch=60, velocity=100, batch_size=1)
    assert torch.allclose(alone[0], x[2], atol=1e-5)
    assert not torch.allclose(x[0], x[1], atol=1e-2)
    g.save(x, tmp_path / "notes.wav")
    found, rate = soundfile.read(tmp_path / "notes.wav", dtype="float32")
    assert rate == g.modality.sample_rate
    assert np.allclose(found[:1_000], x[0, 0].numpy(), atol=1 / 32_768)


def test_what_is_told_makes_a_difference(teacher: Path) -> None:
    g = load(teacher)
    told = {"instrument": "organ", "pitch": "C5", "velocity": 127}
    x = g.sample(1, **told)
    for changed in ({"instrument": "flute"}, {"pitch": "C4"}, {"velocity": 32}):
        assert not torch.equal(g.sample(1, **{**told, **changed}), x)
    assert torch.equal(g.sample(1, instrument="organ", pitch=72), g.sample(1, instrument=3, pitch="C5", velocity=96))
    for wrong, words in (
        ({"pitch": "C7"}, "pitch must be 48 to 84, or C3 to C6, got 'C7'"),
        ({"instrument": "organs"}, "did you mean 'organ'"),
        ({"velocity": 128}, "velocity must be a number from 32 to 127, got '128'"),
        ({"label": 1}, "it takes instrument, pitch, velocity"),
    ):
        with pytest.raises(ValueError, match=words):
            g.sample(1, **wrong)


def test_a_one_step_student_of_the_teacher(teacher: Path, tmp_path: Path) -> None:
    config = sound_config()
    student = replace(config.model, kind="consistency", boundary=0.0, steps=1)
    easy = ECTConfig(curriculum=RatioCurriculum(stages=2))
    config = replace(config, model=student, objective=easy, teacher=str(teacher), max_steps=4, precision="bf16")
    assert run(config, tmp_path / "student")[0]
    g = load(tmp_path / "student")
    assert g.network_calls() == 1
    assert tuple(g.sample(2, instrument="piano", pitch=60).shape) == (2, 1, 1_000)


def test_a_student_on_other_sounds_sees_spectra_as_its_teacher_does(teacher: Path, tmp_path: Path) -> None:
    """Louder ones would have a smaller scale, which the teacher's weights do not know."""
    config = sound_config(data=data_config("notes:excerpt", seconds=0.125, sample_rate=8_000, loudness="peak"))
    student = replace(config.model, kind="consistency", boundary=0.0, steps=1)
    config = replace(config, model=student, objective=ECTConfig(), teacher=str(teacher), max_steps=1)
    assert run(config, tmp_path / "student")[0]
    assert load(tmp_path / "student").config.codec == load(teacher).config.codec
    fresh = fit_model_to_data(student, prepare(config.data, progress=False)).codec
    assert isinstance(fresh, SpectrumConfig)
    assert fresh.scale < 0.9 * load(teacher).config.codec.scale  # type: ignore[attr-defined]


def test_a_recipe_for_another_kind_of_signal_is_refused(tmp_path: Path) -> None:
    words = "this recipe is for sounds, and npz:.* has images; use one for images"
    pictures = DataConfig(source=f"npz:{make_data(tmp_path / 'data.npz')}")
    with pytest.raises(ValueError, match=words):
        run(sound_config(data=pictures), tmp_path / "a")
    words = "this recipe is for images, and notes:excerpt has sounds; use one for sounds"
    with pytest.raises(ValueError, match=words):
        run(run_config("denoising", tmp_path, data=DataConfig(source="notes:excerpt")), tmp_path / "b")


def test_a_spectrum_that_the_network_cannot_halve_is_refused(tmp_path: Path) -> None:
    config = sound_config()
    odd = replace(config.model, codec=SpectrumConfig(n_fft=60, hop=30))
    with pytest.raises(ValueError, match="half of n_fft to be a multiple of 16, got 60"):
        run(replace(config, model=odd), tmp_path / "run")


def test_ones_own_sounds_in_folders_train_with_labels(tmp_path: Path) -> None:
    for label in ("door", "bird"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for i in range(4):
            sound = np.random.default_rng(i).normal(size=(3_000, 2)) * 0.1
            soundfile.write(tmp_path / "mine" / label / f"{i}.wav", sound, 12_000)
    (tmp_path / "mine" / "door" / "broken.wav").write_bytes(b"RIFF")
    data = data_config(f"folder:{tmp_path / 'mine'}", modality="audio", channels=2, sample_rate=8_000, seconds=0.25)
    done, text = run(sound_config(data=data, max_steps=2), tmp_path / "run")
    assert done
    assert "door/broken.wav" in text
    g = load(tmp_path / "run")
    assert g.config.fields["label"] == LabelField(size=2, names=("bird", "door"))
    assert tuple(g.sample(2, label="bird").shape) == (2, 2, 2_000)
    assert "data licence" not in g.config.provenance


def test_a_network_of_one_dimension_sees_frequencies_as_channels_and_knows_its_places(tmp_path: Path) -> None:
    network = replace(NETWORK, dims=1, patch=1, position_sizes=(64,))
    config = sound_config(max_steps=2)
    assert run(replace(config, model=replace(config.model, network=network)), tmp_path / "run")[0]
    g = load(tmp_path / "run")
    assert g.shape == (64, 34)
    assert g.config.network.position_sizes == (34,)
    assert g.config.network.channels == 64
    assert tuple(g.sample(1, instrument="piano").shape) == (1, 1, 1_000)


@pytest.mark.parametrize("level", [0.01, 0.5])
def test_the_scale_brings_any_sounds_to_what_the_model_expects(level: float, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for i in range(6):
        sound = np.random.default_rng(i).normal(size=8_000).clip(-2, 2) * level / 2
        soundfile.write(tmp_path / "mine" / f"{i}.wav", sound, 16_000, subtype="FLOAT")
    dataset = prepare(data_config(f"folder:{tmp_path / 'mine'}", loudness="keep"), progress=False)
    fitted = fit_model_to_data(sound_config().model, dataset)
    spectra = fitted.build_codec().encode(fitted.modality.to_signal(torch.from_numpy(dataset.values.copy())))
    assert float(spectra.std()) == pytest.approx(fitted.sigma_data, rel=0.01)


def test_rates_and_spectra_of_teacher_and_start_are_compared(teacher: Path, tmp_path: Path) -> None:
    known, config = load(teacher / "model"), sound_config()
    data = prepare(config.data, progress=False)
    model = fit_model_to_data(config.model, data)
    assert start_warnings(model, known, "teacher") == []
    faster = replace(model, modality=replace(model.modality, sample_rate=16_000))  # type: ignore[type-var]
    (warning,) = start_warnings(faster, known, "init")
    assert warning.endswith("makes sounds of 0.125 s, 8,000 Hz, mono, and this data has 0.0625 s, 16,000 Hz, mono")
    other = Generator(known.map, replace(known.config, codec=replace(known.config.codec, scale=3.0)))  # type: ignore[type-var]
    assert fit_model_to_start(model, other, None).codec.scale == 3.0  # type: ignore[attr-defined]
    assert fit_model_to_start(model, None, known).codec == known.config.codec
    with pytest.raises(ValueError, match=r"know signals by other codecs \(scale 3.0 and "):
        fit_model_to_start(model, other, known)
