"""The maps inside of a denoiser as features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unistep.core.flowmap import Denoiser
from unistep.evaluation import load_features
from unistep.evaluation.denoiser_features import DenoiserFeatures
from unistep.hub import load
from unistep.modalities.image import ImageModality

IMAGES = ImageModality(size=28, channels=1)


@pytest.fixture(scope="module")
def network() -> Any:
    return load_features("denoiser:fashion-teacher", IMAGES)


@pytest.fixture(scope="module")
def garments() -> torch.Tensor:
    return load("fashion").sample(8, seed=0)


@pytest.mark.parametrize("name", ["fashion-teacher", "notes-teacher", "moving-fashion-teacher"])
def test_pictures_sounds_and_clips_have_them(name: str) -> None:
    modality = load(name).config.modality
    features = load_features(f"denoiser:{name}", modality)
    assert features.hash == load_features(f"denoiser:{name}", modality).hash
    assert features.name == f"denoiser:{name}"
    x = torch.rand(2, *modality.shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).requires_grad_()
    found = features.differentiable(x)
    assert found.shape == (2, features.dim)
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten(1).abs().sum(dim=1).min() > 0
    assert not any(p.requires_grad or p.grad is not None for p in features.parameters())


def test_they_are_those_of_the_denoiser_at_a_low_level(network: Any, garments: torch.Tensor) -> None:
    """The first map computed by hand: the input scaled as EDM scales it, through the first blocks."""
    teacher = load("fashion-teacher").map
    net: Any = teacher.net
    sigma, data = 0.2 * teacher.sigma_data, teacher.sigma_data
    x = garments / (sigma**2 + data**2) ** 0.5
    outputs = []
    handle = net.down[0][-1][0].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        net(x, torch.full((8,), sigma).log() / 4, None, {})
    handle.remove()
    expected = outputs[0] / (outputs[0].square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    maps = network.stages(garments)
    torch.testing.assert_close(maps[0], expected, rtol=1e-4, atol=1e-4)
    for each in maps:
        assert each.square().mean(dim=1).max() < 1 + 1e-4


def test_an_item_does_not_depend_on_its_batch(network: Any, garments: torch.Tensor) -> None:
    torch.testing.assert_close(network(garments)[2:3], network(garments[2:3]), rtol=1e-3, atol=1e-3)


def test_what_cannot_serve_is_refused_in_a_line(tmp_path: Path) -> None:
    teacher = load("fashion-teacher")
    for spec, message in (
        ("denoiser:", "needs a model"),
        ("denoiser:notes-teacher", "makes signals of shape 1x16000"),
        (f"denoiser:{tmp_path}", "no model"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load_features(spec, IMAGES)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="stages"):
        DenoiserFeatures(Denoiser(torch.nn.Identity(), teacher.map.path), teacher.codec, IMAGES.shape)
