from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from unistep.data import Dataset
from unistep.evaluation import load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.learned_features import ViewLoader, learn_views, what_it_is_worth
from unistep.evaluation.saved_features import load_saved
from unistep.evaluation.vicreg import ViewFeatures, ViewRecipe, hide, vicreg_loss
from unistep.modalities.audio import AudioModality
from unistep.modalities.base import Modality
from unistep.modalities.image import ImageModality
from unistep.modalities.tensor import TensorModality
from unistep.modalities.video import VideoModality
from unistep.modalities.views import scaled, shifted

QUICK = ViewRecipe(channels=(8, 8), dim=16, expanded=64, batch_size=40, learning_rate=1e-2, fewest=60, most=60)
SHORT = replace(QUICK, fewest=10, most=10)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(count: int = 240, side: int = 12) -> Dataset:
    """Grey pictures of sixteen squares each, of any brightness."""
    coarse = torch.rand(count, 1, 4, 4, generator=generator(1))
    pictures = torch.nn.functional.interpolate(coarse, (side, side))
    return Dataset.from_tensors((pictures * 200).to(torch.uint8))


def test_the_loss_of_equal_varied_and_uncorrelated_views_is_nothing() -> None:
    z = torch.linalg.qr(torch.randn(64, 8, generator=generator()) - 0.0).Q
    z = torch.linalg.qr(z - z.mean(dim=0)).Q * 63**0.5  # columns of mean 0, variance 1, not correlated
    z = (z - z.mean(dim=0)) * 1.01
    assert vicreg_loss(z, z, ViewRecipe()).item() == pytest.approx(0, abs=1e-4)


def test_each_term_of_the_loss_is_what_the_paper_says() -> None:
    a, b = torch.randn(2, 50, 4, generator=generator(3))
    only = {"invariance": 0.0, "variance": 0.0, "covariance": 0.0}
    apart = vicreg_loss(a, b, replace(ViewRecipe(), **(only | {"invariance": 1.0})))
    assert apart.item() == pytest.approx((a - b).square().mean().item(), rel=1e-6)
    narrow = vicreg_loss(a / 4, a / 4, replace(ViewRecipe(), **(only | {"variance": 1.0})))
    deviation = ((a / 4).var(dim=0) + 1e-4).sqrt()
    assert narrow.item() == pytest.approx(2 * (1 - deviation).clamp_min(0).mean().item(), rel=1e-5)
    tied = vicreg_loss(a, a, replace(ViewRecipe(), **(only | {"covariance": 1.0})))
    covariance = torch.cov(a.T)
    off = covariance.square().sum() - covariance.diagonal().square().sum()
    assert tied.item() == pytest.approx(2 * off.item() / 4, rel=1e-5)


def test_shifts_are_whole_steps_with_repeated_edges() -> None:
    x = torch.arange(20.0).view(1, 1, 4, 5).repeat(50, 1, 1, 1)
    moved = shifted(x, (1, 2), generator())
    rows = torch.arange(4)[None] - torch.arange(-1, 2)[:, None]
    columns = torch.arange(5)[None] - torch.arange(-2, 3)[:, None]
    expected = {tuple((r.clamp(0, 3)[:, None] * 5 + c.clamp(0, 4)).flatten().tolist()) for r in rows for c in columns}
    found = {tuple(map(int, each.flatten().tolist())) for each in moved}
    assert found <= expected
    assert len(found) > 10


def test_levels_change_by_at_most_so_many_decibels() -> None:
    found = 20 * scaled(torch.ones(500, 1, 2), 6.0, generator())[:, 0, 0].log10()
    assert -6 <= float(found.min()) < -5
    assert 5 < float(found.max()) <= 6


def test_hidden_rectangles_differ_and_leave_most() -> None:
    maps = torch.ones(200, 1, 16, 16)
    hide(maps, 0.5, generator())
    share = 1 - maps.mean(dim=(1, 2, 3))
    assert float(share.max()) <= 0.25
    assert 0.03 < float(share.mean()) < 0.1  # a quarter of the side in the mean, on each axis
    assert len({tuple(each.flatten().tolist()) for each in maps}) > 100
    clips = torch.ones(200, 1, 8, 16, 16)
    hide(clips, 0.5, generator())
    hidden = clips[:, 0] == 0
    assert 0.01 < float(hidden.float().mean()) < 0.05  # a quarter of each side in the mean, and of the frames
    frames = hidden.flatten(2).any(dim=2).sum(dim=1)
    assert int(frames.max()) == 4
    assert len(set(frames.tolist())) == 5


def test_it_learns_once_and_is_kept(cache: Path) -> None:
    data, loader, steps = squares(), ViewLoader(SHORT), []
    assert loader.work(data) == 10 * 40
    network = loader.learn("", data, steps.append)
    assert sum(steps) == 10 * 40
    assert loader.work(data) == 0
    (folder,) = (cache / "features").iterdir()
    again = loader.learn("", data, lambda _: pytest.fail("learned again"))
    assert again.hash == network.hash
    assert again.note == network.note
    card = (folder / "README.md").read_text()
    assert network.note in card
    assert "216 images" in card
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert loader.learn("", data, None).hash == network.hash  # learned anew, deterministically


def test_learning_makes_views_alike_and_items_apart() -> None:
    network, facts = learn_views(squares(), QUICK)
    assert facts["found_again"] > facts["untrained"] + 0.3  # type: ignore[operator]
    assert facts["mixture"] > 1.5  # type: ignore[operator]
    x = squares().modality.to_signal(squares().batch(range(200))[0])
    features = network(x).detach()
    assert torch.allclose(features.mean(dim=0), torch.zeros(16), atol=0.5)
    assert float(features.std(dim=0).min()) > 0.3


@pytest.mark.parametrize(
    ("again", "noise", "said"),
    [(0.15, 9.0, "little more than the fixed features"), (0.9, 1.1, "hardly sees noise"), (0.9, 9.0, "")],
)
def test_it_says_what_its_figures_are_worth(again: float, noise: float, said: str) -> None:
    facts = {
        "items": 300,
        "noun": "image",
        "choices": 30,
        "held_out": 30,
        "untrained": 0.1,
        "blur": 5.0,
        "mixture": 5.0,
    }
    text = what_it_is_worth(facts | {"found_again": again, "noise": noise})
    assert "300 images without labels" in text
    assert (said in text) if said else ("an untrained" not in text and "hardly" not in text)


@pytest.mark.parametrize(
    "modality",
    [
        ImageModality(size=64, channels=3),
        ImageModality(size=(5, 9), channels=1),
        AudioModality(samples=4_000, channels=2),
        TensorModality(shape=(3, 50)),
        TensorModality(shape=(7,)),
        TensorModality(shape=(2, 3, 4, 6)),
        VideoModality(size=(12, 20), channels=3, frames=5),
    ],
)
def test_networks_take_signals_of_every_shape_and_are_loaded_again(modality: Modality, tmp_path: Path) -> None:
    from unistep.evaluation.saved_features import rounded_to_half, save_features

    network = rounded_to_half(ViewFeatures(modality=modality, channels=(6, 8), dim=5)).eval()
    x = torch.randn(3, *modality.shape, generator=generator()).clamp(-1, 1)
    assert network(x).shape == (3, 5)
    assert modality.random_view(x, generator()).shape == x.shape
    save_features(network, tmp_path / "made", name="mine", version="1", facts={"note": "what it is worth"}, card="")
    loaded = load_saved(tmp_path / "made")
    assert (loaded.name, loaded.shape, loaded.note) == ("mine", modality.shape, "what it is worth")
    torch.testing.assert_close(loaded(x), network(x).detach(), rtol=1e-4, atol=1e-5)
    stages = loaded.stages(x.requires_grad_())
    assert [stage.dim() for stage in stages] == [4, 4]
    assert gradient(stages[-1], x).abs().sum() > 0
    assert gradient(loaded.differentiable(x), x).abs().sum() > 0


def gradient(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.square().sum(), x)[0]


def test_a_network_that_learns_needs_data() -> None:
    with pytest.raises(ValueError, match="'vicreg' learn from data, and none was given"):
        load_features("vicreg", ImageModality(size=8, channels=1))
    with pytest.raises(ValueError, match="take no 'x'; leave it out"):
        load_features("vicreg:x", data=squares())


def test_learning_has_a_line_of_its_own_in_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from unistep.evaluation import learned_features
    from unistep.evaluation.progress import display
    from unistep.evaluation.roles import load_networks

    monkeypatch.setattr(learned_features.VICREG, "recipe", SHORT)
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with display(True, console) as bar:
        networks = load_networks(["vicreg", "random-convolutions"], squares(), bar=bar)
    assert [network.name for network in networks] == ["vicreg", "random-convolutions"]
    assert "vicreg learns" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'random-convolutions' is named twice"):
        load_networks(["random-convolutions", "random-convolutions"], squares())
    with pytest.raises(ValueError, match="at least one feature network"):
        load_networks([], squares())


def test_two_networks_of_one_name_have_two_in_a_report() -> None:
    from unistep.evaluation.roles import load_networks

    def scaled(by: float) -> FeatureNetwork:
        return FeatureNetwork(Scaled(by), name="mine", version="1", shape=data.shape)

    data = squares()
    one, other = load_networks([scaled(1.0), scaled(2.0)], data)
    assert (one.name, other.name) == ("mine", f"mine-{other.hash[:8]}")
    assert other.hash == scaled(2.0).hash
    x = torch.ones(1, *data.shape)
    assert torch.equal(other(x), 2 * one(x))


class Scaled(nn.Module):
    """Pixels times a number.

    Args:
        by: The number.
    """

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.by * x.flatten(1)
