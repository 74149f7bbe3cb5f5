"""Weights of one set of conditions start a model of another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unistep.core.condition import LabelField, Tokens, TokensField
from unistep.core.timesteps import RatioCurriculum
from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.hub.load import load
from unistep.hub.save import save
from unistep.modalities.image import ImageModality
from unistep.nets.unet_config import UNetConfig
from unistep.objectives.cd import CDConfig
from unistep.objectives.denoising import DenoisingConfig
from unistep.objectives.ect import ECTConfig
from unistep.serialization import read_json
from unistep.training.build import build_student, keep_conditions, load_fitting
from unistep.training.run import train
from unistep.training.run_config import RunConfig

IMAGES = ImageModality(size=8, channels=1)
NETWORK = UNetConfig(widths=(8,), blocks=(1,), middle_blocks=1, embedding_dim=8, head_dim=8, patch=2)


def base(folder: Path) -> ModelConfig:
    """A denoiser of three classes and of tokens, with weights that matter."""
    fields = {"label": LabelField(size=3), "text": TokensField(length=4, dim=5)}
    model = ModelConfig(kind="denoiser", network=NETWORK, modality=IMAGES, fields=fields).fitted()
    torch.manual_seed(0)
    net = model.build().net
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save(model, net.state_dict(), folder, card="A base.")
    return model


def test_what_data_lacks_stays_null(tmp_path: Path) -> None:
    base(tmp_path / "base")
    name = str(tmp_path / "base")
    plain = ModelConfig(kind="denoiser", network=NETWORK, modality=IMAGES).fitted()
    with pytest.raises(ValueError, match=r"the teacher .* does not fit .* num_classes 3 instead of 0"):
        load_fitting(name, plain, "teacher")
    kept = keep_conditions(plain, name, None)
    start = load_fitting(name, kept, "init")
    assert start is not None
    student = build_student(
        RunConfig(recipe="t", data=DataConfig(), model=kept, objective=DenoisingConfig()), kept, start
    ).eval()
    x, t = torch.randn(3, 1, 8, 8), torch.ones(3)
    torch.testing.assert_close(student(x, t), start.map(x, t))


def test_other_classes_begin_at_no_class(tmp_path: Path) -> None:
    base(tmp_path / "base")
    name = str(tmp_path / "base")
    five = ModelConfig(kind="denoiser", network=NETWORK, modality=IMAGES, fields={"label": LabelField(size=5)}).fitted()
    kept = keep_conditions(five, name, None)
    assert kept.network.num_classes == 5  # type: ignore[attr-defined]
    start = load_fitting(name, kept, "init")
    assert start is not None
    student = build_student(
        RunConfig(recipe="t", data=DataConfig(), model=kept, objective=DenoisingConfig()), kept, start
    ).eval()
    x, t = torch.randn(3, 1, 8, 8), torch.ones(3)
    torch.testing.assert_close(student(x, t, None, {"label": torch.tensor([0, 4, -1])}), start.map(x, t))


def test_a_text_that_the_base_lacks_begins_without_effect(tmp_path: Path) -> None:
    model = ModelConfig(kind="denoiser", network=NETWORK, modality=IMAGES).fitted()
    torch.manual_seed(0)
    save(model, model.build().net.state_dict(), tmp_path / "base", card="A base.")
    named = replace(model, fields={"text": TokensField(length=4, dim=5)}).fitted()
    start = load_fitting(str(tmp_path / "base"), named, "init")
    assert start is not None
    student = build_student(
        RunConfig(recipe="t", data=DataConfig(), model=named, objective=DenoisingConfig()), named, start
    ).eval()
    x, t = torch.randn(3, 1, 8, 8), torch.ones(3)
    told = {"text": Tokens.whole(torch.randn(3, 4, 5))}
    torch.testing.assert_close(student(x, t, None, told), start.map(x, t))


def test_a_run_of_two_stages_begins_from_a_base_of_other_conditions(tmp_path: Path) -> None:
    base(tmp_path / "base")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "plain.npz", arr_0=pixels)
    model = ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES)
    config = RunConfig(
        recipe="t",
        data=DataConfig(source=f"npz:{tmp_path / 'plain.npz'}"),
        model=model,
        objective=ECTConfig(),
        init=str(tmp_path / "base"),
        max_steps=2,
        batch_size=4,
        auto=("network",),
        precision="fp32",
    )
    assert train(config, tmp_path / "run", device="cpu")
    student = load(tmp_path / "run")
    assert dict(student.config.fields) == {}
    assert student.config.network.tokens == {"text": 5}  # type: ignore[attr-defined]
    assert student.sample(2, seed=0).isfinite().all()


def test_a_one_step_model_goes_on_with_other_data_without_a_teacher(tmp_path: Path) -> None:
    fields = {"label": LabelField(size=3)}
    known = ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES, fields=fields).fitted()
    torch.manual_seed(0)
    save(known, known.build().net.state_dict(), tmp_path / "student", card="A student.")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "plain.npz", arr_0=pixels)
    config = RunConfig(
        recipe="t",
        data=DataConfig(source=f"npz:{tmp_path / 'plain.npz'}"),
        model=ModelConfig(kind="consistency", network=NETWORK, modality=IMAGES),
        objective=ECTConfig(target="euler", guidance=1.2, curriculum=RatioCurriculum(q=4.0, stages=3)),
        init=str(tmp_path / "student"),
        max_steps=2,
        batch_size=4,
        auto=("network",),
        precision="fp32",
    )
    assert train(config, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run/teacher").exists()
    kept = read_json(RunConfig, tmp_path / "run/config.json").objective
    assert (kept.target, kept.guidance, kept.curriculum.q) == ("data", 1.0, 16.0)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="cannot go on with a trained student without a teacher"):
        train(replace(config, objective=CDConfig()), tmp_path / "other", device="cpu")
