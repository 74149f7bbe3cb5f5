"""The presets: their size, the signals that they take, and the shape of the shipped models among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unistep.nets.presets import COLOUR_PARAMETERS, PARAMETERS, colour_presets, presets
from unistep.nets.unet import UNetConfig
from unistep.recipes.shipped_fashion import NETWORK


def count(config: UNetConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in config.build().parameters())


@pytest.mark.parametrize("name", presets())
def test_each_preset_has_the_stated_number_of_parameters(name: str) -> None:
    assert count(presets()[name]) == pytest.approx(PARAMETERS[name], rel=0.02)


@pytest.mark.parametrize("name", presets())
def test_colour_and_classes_change_little(name: str) -> None:
    told = replace(presets()[name], channels=3, num_classes=10)
    assert count(told) == pytest.approx(PARAMETERS[name], rel=0.02)


def test_sizes_go_up_from_two_to_sixty_million() -> None:
    assert list(PARAMETERS) == list(presets())
    sizes = list(PARAMETERS.values())
    assert sizes == sorted(sizes)
    assert round(sizes[0] / 1e6) == 2
    assert 55e6 < sizes[-1] < 65e6


@pytest.mark.parametrize("name", presets())
def test_every_preset_takes_28_to_64_pixels(name: str) -> None:
    config = presets()[name]
    with torch.device("meta"):
        net = config.build()
        assert net(torch.empty(1, 1, 28, 64), torch.empty(1)).shape == (1, 1, 28, 64)
    assert not any(size % config.multiple for size in (28, 32, 48, 64))


def test_the_shipped_shape_is_that_of_the_recipes() -> None:
    assert presets()["fashion"] == NETWORK


@pytest.mark.parametrize("name", colour_presets())
def test_colour_presets_have_their_size_and_take_their_images(name: str) -> None:
    config = colour_presets()[name]
    side = 128 if "128" in name else 64
    with torch.device("meta"):
        net = config.build()
        assert net(torch.empty(1, 3, side, side), torch.empty(1)).shape == (1, 3, side, side)
    assert sum(p.numel() for p in net.parameters()) == COLOUR_PARAMETERS[name]
    assert list(COLOUR_PARAMETERS) == list(colour_presets())
