from __future__ import annotations

import pytest
import torch

from unistep.evaluation import load_features
from unistep.modalities.audio import AudioModality
from unistep.modalities.base import Modality
from unistep.modalities.image import ImageModality
from unistep.modalities.tensor import TensorModality
from unistep.modalities.video import VideoModality

IMAGES = ImageModality(size=28, channels=1)
CLIPS = VideoModality(size=16, channels=1, frames=6)


@pytest.mark.parametrize(
    "modality",
    [IMAGES, ImageModality(size=64, channels=3), AudioModality(samples=4_000), TensorModality(shape=(5,)), CLIPS],
)
def test_it_takes_signals_of_every_kind_and_is_the_same_everywhere(modality: Modality) -> None:
    one, again = (load_features("random-convolutions", modality) for _ in range(2))
    assert one.hash == again.hash
    assert one.hash != load_features("random-convolutions:1", modality).hash
    x = torch.randn(3, *modality.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert torch.equal(one(x), again(x))
    assert one(x).shape == (3, one.dim)
    assert one.dim <= 3 * 128


def test_it_sees_texture_place_and_does_not_depend_on_the_batch() -> None:
    network = load_features("random-convolutions", IMAGES)
    flat = torch.zeros(1, 1, 28, 28)
    grain = 0.3 * (-1.0) ** torch.arange(28)[None, None, None].add(torch.arange(28)[:, None])  # mean 0 over any tile
    left = flat.clone()
    left[..., :14] = grain[..., :14]
    right = left.flip(-1)
    found = network(torch.cat([flat, grain, left, right]))
    apart = torch.cdist(found, found)
    assert apart[~torch.eye(4, dtype=torch.bool)].min() > 0.05
    torch.testing.assert_close(network(left), found[2:3], rtol=1e-4, atol=1e-5)


def test_filters_over_time_see_motion_where_no_frame_differs() -> None:
    """A clip and the same frames in another order: their frames are the same, and the features are not."""
    network = load_features("random-convolutions", CLIPS)
    texture = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sliding = torch.stack([texture.roll(j, dims=-1) for j in range(6)], dim=2)
    shuffled = sliding[:, :, [3, 0, 5, 1, 4, 2]]
    apart = (network(sliding) - network(shuffled)).square().sum(dim=1)
    assert (apart > 0.05 * network(sliding).square().sum(dim=1)).all()
    assert network.label.version == "3"
    assert load_features("random-convolutions", IMAGES).label.version == "2"
    assert [stage.ndim for stage in network.stages(sliding)] == [4, 4, 4]


def test_gradients_reach_the_signals_through_features_and_stages() -> None:
    network = load_features("random-convolutions", IMAGES)
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert not network(x).requires_grad
    for y in (network.differentiable(x), *network.stages(x)):
        assert torch.autograd.grad(y.sum(), x, retain_graph=True)[0].abs().sum() > 0
    assert [stage.shape[2] for stage in network.stages(x)] == [28, 14, 7]
    assert not any(p.requires_grad for p in network.parameters())


def test_a_network_without_stages_gives_its_features_as_one() -> None:
    network = load_features("pixels", IMAGES)
    x = torch.randn(2, 1, 28, 28)
    (stage,) = network.stages(x)
    assert stage.shape == (2, network.dim, 1, 1)
    assert torch.equal(stage[:, :, 0, 0], network(x))


def test_the_seed_is_a_number() -> None:
    with pytest.raises(ValueError, match="random-convolutions:SEED takes a whole number, got 'x'"):
        load_features("random-convolutions:x", IMAGES)


@pytest.mark.parametrize("modality", [IMAGES, ImageModality(size=64, channels=3), AudioModality(samples=4_000), CLIPS])
def test_details_are_none_where_nothing_changes_and_grow_with_contrast(modality: Modality) -> None:
    network = load_features("details", modality)
    flat = torch.full((1, *modality.shape), 0.25)
    silent = torch.zeros(1, *modality.shape) if isinstance(modality, AudioModality) else flat
    assert network(silent).abs().max() < 1e-4
    if not isinstance(modality, AudioModality):  # whose map is logarithmic
        x = 0.4 * torch.randn(2, *modality.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        assert torch.allclose(network(0.5 * x + 0.1), 0.5 * network(x), atol=1e-4)


def test_each_octave_sees_the_stripes_of_its_width() -> None:
    network, octaves = load_features("details", IMAGES), []
    for width in (1, 2, 4):
        stripes = 1 - 2.0 * (torch.arange(28) // width % 2).expand(1, 1, 28, 28)
        octaves.append(network(stripes).view(3, -1).norm(dim=1))
    fine, middle, coarse = (found / found.sum() for found in octaves)
    assert fine[0] > 0.9
    assert fine[0] > middle[0] > coarse[0]
    assert fine[2] < middle[2] < coarse[2]


def test_details_tell_a_soft_image_from_a_sharp_one_better_than_values_do() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = (0.5 * torch.randn(64, 1, 28, 28, generator=generator)).cumsum(dim=-1).clamp(-1, 1)
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    moved = {}
    for name in ("details", "scales"):
        network = load_features(name, IMAGES)
        a, b = network(sharp), network(soft)
        moved[name] = float((a.mean(dim=0) - b.mean(dim=0)).norm() / a.std(dim=0).norm())
    assert moved["details"] > 3 * moved["scales"]
