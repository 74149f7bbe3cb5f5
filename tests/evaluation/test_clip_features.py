"""The feature network of moving items, its loss, and that it is stored in few bits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from unistep.data.sources.moving_fashion import draw_clip, moving_items
from unistep.evaluation.clip_features import ClipFeatures, best_order
from unistep.evaluation.saved_features import load_saved, pack, save_features


def test_items_are_taken_in_the_better_order() -> None:
    scores = torch.zeros(1, 2, 3)
    scores[0, 0, 2] = scores[0, 1, 1] = 30.0  # the first row says class 2, the second class 1
    velocities = torch.tensor([[[0.5, 0.0], [0.0, -1.0]]])
    loss, order = best_order(scores, velocities, torch.tensor([[1, 2]]), velocities.flip(1))
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert order.tolist() == [[1, 0]]
    loss, order = best_order(scores, velocities, torch.tensor([[2, 1]]), velocities + 1)
    assert order.tolist() == [[0, 1]]
    assert loss.item() == pytest.approx(2)  # the square of (1, 1)
    loss, _ = best_order(torch.zeros(1, 2, 3), velocities, torch.tensor([[0, 0]]), velocities)
    assert loss.item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("bits", [None, 5, 8])
def test_it_is_saved_and_loaded_as_it_was_measured(tmp_path: Path, bits: int | None) -> None:
    torch.manual_seed(0)
    network = ClipFeatures(in_channels=1, frames=4, size=8, channels=(4, 8), dim=6, items=2, classes=3).eval()
    exact = {key: value.clone() for key, value in network.state_dict().items()}
    packed = None if bits is None else pack(network, bits)
    save_features(network, tmp_path / "made", name="mine", version="2", facts={}, card="", packed=packed)
    loaded = load_saved(tmp_path / "made")
    assert (loaded.name, loaded.version, loaded.shape, loaded.dim) == ("mine", "2", (1, 4, 8, 8), 6)
    x = torch.rand(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    tolerance = 1e-5 if bits else 1e-2  # half precision rounds what is measured unrounded here
    torch.testing.assert_close(loaded(x), network(x).detach(), rtol=tolerance, atol=tolerance)
    kernel = "trunk.3.conv.weight"
    assert torch.equal(network.state_dict()[kernel], exact[kernel]) == (bits is None)
    assert [stage.ndim for stage in loaded.stages(x)] == [4, 4]
    scores, velocities = network.said(network(x))
    assert scores.shape == (3, 2, 3)
    assert velocities.shape == (3, 2, 2)


def test_weights_are_not_stored_in_other_bits() -> None:
    network = ClipFeatures(in_channels=1, frames=2, size=4, channels=(2,), dim=3, items=1, classes=2)
    with pytest.raises(ValueError, match="bits must be one of 4, 5, 6, 7, 8, got 9"):
        pack(network, 9)


def test_what_a_clip_holds_is_what_is_drawn() -> None:
    import numpy as np

    white = np.full((5, 28, 28), 255, np.uint8)
    behind, front = moving_items(5, "train", 3)
    first = draw_clip(white, "train", 3, 2)[0]
    for each in (behind, front):
        row, column = (round(36 * place) for place in (each.row, each.column))
        assert (first[row : row + 28, column : column + 28] == 255).all()
        assert 2 <= math.hypot(*each.velocity) <= 5
    assert behind != front


def test_the_shipped_network_without_labels_finds_a_clip_by_another_view() -> None:
    from unistep.evaluation import load_features
    from unistep.hub import load

    garments = load("fashion").sample(20, seed=0)[:, 0].add(1).mul(127.5).round().byte().numpy()
    model = load("moving-fashion").config.modality
    scenes = torch.stack([torch.as_tensor(draw_clip(garments, "test", i, 16)) for i in range(12)])
    clips = torch.nn.functional.avg_pool2d(scenes.float(), 2).div(127.5).sub(1)[:, None]
    network = load_features("moving-fashion-vicreg", model)
    views = model.random_view(clips, torch.Generator().manual_seed(0))
    assert torch.cdist(network(clips), network(views)).argmin(dim=1).tolist() == list(range(12))
