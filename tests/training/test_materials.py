"""What a run gives its objective: representations see what an evaluation sees; a trained model goes on as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import IMAGES, NETWORK, make_data, make_teacher, run, run_config

from unistep.codecs.identity import IdentityConfig
from unistep.core.condition import GUIDANCE, Condition, LabelField, ScalarField
from unistep.core.path import LinearFlow
from unistep.data import DataConfig, prepare
from unistep.evaluation.denoiser_features import DenoiserFeatures
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.evaluation.reference import subset_indices
from unistep.generation.model_config import ModelConfig
from unistep.hub import load, save
from unistep.objectives.fd import FDConfig
from unistep.objectives.population import ClassMeans
from unistep.training.examples import Examples
from unistep.training.materials import DecodedFeatures, RunMaterials


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data and a model to begin with."""
    make_data(tmp_path / "data.npz")
    make_teacher(tmp_path / "teacher")
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_features_are_those_of_an_evaluation_and_have_a_gradient() -> None:
    network = load_features("random-convolutions", IMAGES)
    features = DecodedFeatures(IdentityConfig().build(IMAGES.shape), IMAGES, network)
    x = (1.5 * torch.randn(4, *IMAGES.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    found = features(x)
    assert torch.equal(found, network(IMAGES.quantised(x.detach())))
    found.square().sum().backward()
    assert x.grad is not None
    inside = x.detach().abs() < 1  # beyond the range a signal does not change
    assert (x.grad[~inside] == 0).all()
    assert (x.grad[inside] != 0).float().mean() > 0.9


def test_representations_have_the_moments_of_the_data_and_of_its_classes(folder: Path) -> None:
    data = prepare(DataConfig(source=f"npz:{folder / 'data.npz'}"))
    config = run_config("fd", folder)
    examples = Examples(data.modality, IdentityConfig().build(data.modality.shape))
    materials = RunMaterials(config, data, examples=examples)
    (found,) = materials.representations(["pixels"], by_class=True)
    stored, condition = data.batch(range(len(data)))
    features = load_features("pixels", data.modality)(data.modality.to_signal(stored))
    ours = Moments.known(found.mean, found.covariance, len(data))
    assert frechet_distance(Moments.of(features), ours) < 1e-6
    label = condition["label"].tensors["index"]
    for c, mean in enumerate(found.class_means["label"]):
        assert torch.allclose(mean, features[label == c].double().mean(dim=0), atol=1e-5)
    assert [r.name for r in materials.representations([])] == list(data.modality.feature_roles().training)
    drawn = list(materials.examples(10))
    assert sum(len(x0) for x0, _ in drawn) == 10
    with pytest.raises(ValueError, match=r"no feature network 'pixel'; .*did you mean 'pixels'"):
        materials.representations(["pixel"])
    with pytest.raises(ValueError, match="representations need data"):
        RunMaterials(config).representations(["pixels"])


def test_the_maps_inside_of_a_teacher_are_compared_with_those_of_some_items(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("unistep.training.materials.ITEMS", 12)
    data = prepare(DataConfig(source=f"npz:{folder / 'data.npz'}"))
    codec = IdentityConfig().build(data.modality.shape)
    materials = RunMaterials(run_config("fd", folder), data, examples=Examples(data.modality, codec))
    teacher = load(folder / "teacher").map
    named, maps = materials.representations(["pixels"], by_class=True, teacher=teacher)
    assert (named.name, maps.name) == ("pixels", "teacher")
    stored, _ = data.batch([i * len(data) // 12 for i in range(12)])
    signals = data.modality.to_signal(stored)
    expected = DenoiserFeatures(teacher, codec, data.modality.shape)(signals).double()
    assert torch.allclose(maps.mean, expected.mean(dim=0), atol=1e-5)
    assert isinstance(maps.features, torch.nn.Module)
    assert torch.allclose(maps.features(signals).double(), expected, atol=1e-4)
    assert maps.class_means["label"].shape[1] == expected.shape[1]
    teacher.net = torch.nn.Identity()  # a network of one's own that does not say where its maps are
    assert [r.name for r in materials.representations(["pixels"], teacher=teacher)] == ["pixels"]


def test_a_class_that_no_item_of_the_subset_has_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of a random subset are kept: a rare class may not be in it, and its samples come all the same."""
    monkeypatch.setattr("unistep.evaluation.reference._SUBSET", 12)
    pixels = np.load(folder / "data.npz")["arr_0"]
    labels = np.zeros(len(pixels), dtype=np.int64)
    some = set(subset_indices(len(pixels)).tolist())
    rare = next(i for i in range(len(pixels)) if i not in some)
    labels[rare] = 1
    np.savez(folder / "rare.npz", arr_0=pixels, arr_1=labels)
    data = prepare(DataConfig(source=f"npz:{folder / 'rare.npz'}"), progress=False)
    examples = Examples(data.modality, IdentityConfig().build(data.modality.shape))
    materials = RunMaterials(run_config("fd", folder), data, examples=examples)
    (found,) = materials.representations(["pixels"], by_class=True)
    means = found.class_means["label"]
    assert len(means) == 2
    features = torch.randn(6, means.shape[1], dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 0, 0, 0, 1, 1])
    total, parts = ClassMeans(100, found.class_means)(features.detach(), {"label": index}, features, {"label": index})
    parts.sum().backward()
    assert total.isfinite()
    assert features.grad is not None
    assert (features.grad[index == 1] == 0).all()
    assert (features.grad[index == 0] != 0).any()


def start(folder: Path, **changes: object) -> str:
    """Write a model to go on with."""
    fields = {"label": LabelField(size=3), GUIDANCE: ScalarField(low=1.0, high=4.0, default=2.0)}
    options = {"kind": "flow_map", "network": replace(NETWORK, dropout=0.0), "modality": IMAGES, "fields": fields}
    config = ModelConfig(**{**options, **changes}).fitted()  # type: ignore[arg-type]
    torch.manual_seed(0)
    save(config, config.build().net.state_dict(), folder / "start", "# a start\n")
    return str(folder / "start")


def test_the_model_keeps_its_kind_path_and_guidance_input(folder: Path) -> None:
    network = replace(NETWORK, dropout=0.0, second_time=True)
    init = start(folder, network=network, path=LinearFlow(sigma_max=20.0), boundary=0.01)
    config = run_config("fd", folder, init=init, max_steps=1)
    config = replace(config, objective=FDConfig(representations=("pixels",), population=96, guidance_range=(1.0, 4.0)))
    assert run(config, folder / "run")[0]
    made = load(folder / "run")
    assert made.config.kind == "flow_map"
    assert made.config.path == LinearFlow(sigma_max=20.0)
    assert made.config.boundary == 0.01
    assert made.config.network.takes_second_time
    assert made.config.fields[GUIDANCE] == ScalarField(low=1.0, high=4.0, default=2.0)
    plain = run_config("fd", folder, init=init, max_steps=1)
    assert run(plain, folder / "plain")[0]
    assert load(folder / "plain").config.fields[GUIDANCE] == ScalarField(low=1.0, high=4.0, default=2.0)
    assert load(folder / "plain").sample(2, label=1, guidance=3.0).shape == (2, *IMAGES.shape)


def test_samples_in_training_have_the_guidance_weights_that_the_model_takes(folder: Path, monkeypatch) -> None:
    config = run_config("fd", folder, init=start(folder), max_steps=1)
    drawn: list[torch.Tensor] = []
    draw = FDConfig.sample_guidance

    def seen(config: FDConfig, *given: Any) -> Condition:
        condition = draw(config, *given)
        drawn.append(condition[GUIDANCE].tensors["value"])
        return condition

    monkeypatch.setattr(FDConfig, "sample_guidance", seen)
    assert run(config, folder / "run")[0]
    weights = torch.cat(drawn)
    assert weights.isfinite().all()
    assert weights.min() >= 1
    assert weights.max() <= 4
    assert weights.std() > 0


def test_a_denoiser_becomes_a_one_step_model(folder: Path) -> None:
    assert run(run_config("fd", folder, max_steps=1), folder / "run")[0]
    made = load(folder / "run")
    assert (made.config.kind, made.config.steps) == ("consistency", 1)


def test_without_a_model_to_go_on_with_there_is_one_line_and_no_folder(folder: Path) -> None:
    with pytest.raises(ValueError, match="tiny-fd goes on with a trained model; name it, such as --init fashion"):
        run(run_config("fd", folder, init=None), folder / "run")
    assert not (folder / "run").exists()
