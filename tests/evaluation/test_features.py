from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unistep.zoo
from unistep.data import Dataset
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.feature_nets import ConvFeatures
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.saved_features import rounded_to_half, save_features
from unistep.modalities.image import ImageModality

SHIPPED = Path(next(iter(unistep.zoo.__path__))) / "features" / "fashion-v1"
MODALITY = ImageModality(size=28, channels=1)
IMAGES = torch.linspace(-1, 1, 3 * 784).view(3, 1, 28, 28)


class Halves(nn.Module):
    """Mean of the upper and of the lower half."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([part.mean((1, 2, 3)) for part in x.chunk(2, dim=2)], 1)


class Named(Halves):
    name, version = "named", "7"


def plain_function() -> object:
    return lambda x: x.mean((2, 3))


NOT_A_NETWORK = 3


def test_the_shipped_network_is_named_versioned_small_and_frozen() -> None:
    network = load_features("fashion", MODALITY)
    assert (network.name, network.version, network.dim) == ("fashion", "1", 96)
    assert str(network.label) == f"fashion v1 (96 features, {network.hash[:8]})"
    assert (SHIPPED / "model.safetensors").stat().st_size < 2_000_000
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    features = network(IMAGES)
    assert features.shape == (3, 96)
    assert features.dtype == torch.float32
    torch.testing.assert_close(network(IMAGES[1:2]), features[1:2], rtol=1e-4, atol=1e-5)


def test_the_shipped_network_has_the_accuracy_that_its_card_states() -> None:
    from train_image_features import accuracy

    from unistep.data import DataConfig, prepare

    network = load_features("fashion", MODALITY).network
    assert isinstance(network, ConvFeatures)
    test = prepare(DataConfig(source="fashion-mnist", split="test"), progress=False)
    assert test.labels is not None
    config = json.loads((SHIPPED / "config.json").read_text())
    found = accuracy(network, test, np.arange(3000))
    assert found == pytest.approx(config["accuracy"], abs=0.015)  # three standard errors of 3,000 images
    assert f"{config['accuracy']:.2%}" in (SHIPPED / "README.md").read_text()


def test_a_saved_network_is_the_same_from_any_folder(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "copy")
    assert load_features(str(tmp_path / "copy"), MODALITY).hash == load_features("fashion", MODALITY).hash


def test_other_weights_or_another_version_make_another_hash(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(SHIPPED, tmp_path / "weights")
    tensors = load_file(SHIPPED / "model.safetensors")
    tensors["head.bias"][0] += 1
    save_file(tensors, tmp_path / "weights" / "model.safetensors")
    shutil.copytree(SHIPPED, tmp_path / "version")
    config = json.loads((SHIPPED / "config.json").read_text())
    (tmp_path / "version" / "config.json").write_text(json.dumps(config | {"version": "2"}))
    hashes = {
        load_features(spec, MODALITY).hash for spec in ("fashion", str(tmp_path / "weights"), str(tmp_path / "version"))
    }
    assert len(hashes) == 3


def test_pixels_keep_lengths_of_what_they_see_and_never_change() -> None:
    network = load_features("pixels", MODALITY)
    assert network.dim == 64
    directions = network.network.directions
    torch.testing.assert_close(directions.T @ directions, torch.eye(64), rtol=0, atol=1e-5)
    assert network.hash == load_features("pixels", MODALITY).hash
    small = load_features("pixels", ImageModality(size=4, channels=1))  # fewer pixels than directions: nothing is lost
    x = torch.randn(5, 1, 4, 4)
    torch.testing.assert_close(small(x).norm(dim=1), x.flatten(1).norm(dim=1))


@pytest.mark.parametrize(("target", "name", "version"), [("Named", "named", "7"), ("Halves", None, "unversioned")])
def test_any_network_plugs_in(target: str, name: str | None, version: str) -> None:
    spec = f"module:{_here()}:{target}"
    network = load_features(spec, MODALITY)
    assert (network.name, network.version, network.dim) == (name or f"{_here()}:{target}", version, 2)
    torch.testing.assert_close(network(IMAGES), Halves()(IMAGES))


def test_a_plain_function_plugs_in() -> None:
    network = load_features(f"module:{_here()}:plain_function", ImageModality(size=8, channels=3))
    assert network(torch.ones(4, 3, 8, 8)).tolist() == [[1.0] * 3] * 4


def _here() -> str:
    sys.modules.setdefault("feature_examples", sys.modules[__name__])
    return "feature_examples"


def test_torchscript_plugs_in(tmp_path: Path) -> None:
    _script(Halves(), tmp_path / "halves.pt")
    network = load_features(f"torchscript:{tmp_path / 'halves.pt'}", MODALITY)
    assert (network.name, network.version, network.dim) == ("halves", "torchscript", 2)
    torch.testing.assert_close(network(IMAGES), Halves()(IMAGES))


def _script(module: nn.Module, file: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), str(file))


class ScriptedInception(nn.Module):
    """Answers as StyleGAN's scripted InceptionV3 does: bytes in, features on request."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        assert x.dtype == torch.uint8
        assert x.shape[1] == 3
        return x.float().mean((2, 3)) if return_features else torch.zeros(1)


def test_scripted_inception_sees_bytes_in_colour(tmp_path: Path) -> None:
    _script(ScriptedInception(), tmp_path / "inception.pt")
    network = load_features(f"inception:{tmp_path / 'inception.pt'}", MODALITY)
    assert network.name == "inception-v3"
    grey = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 28, 28)
    assert network(grey).tolist() == [[0.0] * 3, [128.0] * 3, [255.0] * 3]


def test_inception_weights_go_to_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FeatureExtractorInceptionV3(nn.Module):
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert (name, features_list) == ("inception-v3-compat", ["2048"])
            assert Path(feature_extractor_weights_path).read_bytes() == b"weights"

        def forward(self, x: Tensor) -> tuple[Tensor]:
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)),)

    fake = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    fake.FeatureExtractorInceptionV3 = FeatureExtractorInceptionV3
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", fake)
    (tmp_path / "inception.pth").write_bytes(b"weights")
    network = load_features(f"inception:{tmp_path / 'inception.pth'}", MODALITY)
    assert network(torch.ones(2, 1, 8, 8)).tolist() == [[255.0] * 3] * 2


def test_inception_without_torch_fidelity_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    (tmp_path / "inception.pth").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"install it, or give StyleGAN's inception-2015-12-05\.pt"):
        load_features(f"inception:{tmp_path / 'inception.pth'}", MODALITY)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fashoin", "no feature network 'fashoin'.*did you mean 'fashion'"),
        ("inception:/nowhere.pt", "no file '/nowhere.pt'"),
        ("torchscript:/nowhere.pt", "no file '/nowhere.pt'"),
        ("module:json", "must be module:PACKAGE.MODULE:CALLABLE"),
        ("module:no_such_package:f", "cannot be found"),
        ("module:json:no_such_name", "cannot be found"),
        ("module:json:loads", "callable without arguments"),
        ("module:feature_examples:NOT_A_NETWORK", "is a int"),
    ],
)
def test_a_wrong_name_is_one_line_that_helps(spec: str, message: str) -> None:
    _here()
    with pytest.raises(ValueError, match=message) as caught:
        load_features(spec, MODALITY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["no weights", "truncated", "not json", "other format", "unknown key", "misfit"])
def test_a_damaged_folder_is_one_line_that_helps(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "features"
    shutil.copytree(SHIPPED, folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    plain = json.loads(config.read_text())
    match damage:
        case "no weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:1000])
        case "not json":
            config.write_text("{")
        case "other format":
            config.write_text(json.dumps(plain | {"format": "x"}))
        case "unknown key":
            config.write_text(json.dumps(plain | {"architecture": plain["architecture"] | {"depth": 3}}))
        case "misfit":
            config.write_text(json.dumps(plain | {"architecture": plain["architecture"] | {"dim": 12}}))
    with pytest.raises(ValueError, match=str(folder)) as caught:
        load_features(str(folder), MODALITY)
    assert "\n" not in str(caught.value)


def test_a_scripted_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read .* as TorchScript"):
        load_features(f"torchscript:{tmp_path / 'x.pt'}", MODALITY)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="take signals of shape 1x28x28, got 3x32x32"):
        load_features("fashion", MODALITY)(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: x.mean(), "must return finite features"),
        (lambda x: x.mean((1, 2, 3))[:, None] * torch.nan, "must return finite features"),
        (nn.Linear(3, 3), "failed on signals"),
    ],
)
def test_a_network_that_gives_no_features_is_refused(network, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureNetwork(network, name="bad", version="1", shape=(1, 28, 28))


def test_training_learns_saves_and_loads_again(tmp_path: Path) -> None:
    from feature_training import ClassifierRecipe
    from train_image_features import accuracy, fit

    rng = np.random.default_rng(0)
    labels = np.arange(256) % 2
    images = rng.integers(0, 60, (256, 1, 8, 8), dtype=np.uint8)
    images[labels == 1, :, :4] += 150  # a bright upper half: flips do not change it
    recipe = ClassifierRecipe(channels=(4, 4), dim=6, epochs=6, batch_size=32, learning_rate=0.02)
    data, every = Dataset.from_tensors(torch.from_numpy(images), label=torch.from_numpy(labels)), np.arange(256)
    network = rounded_to_half(fit(data, every, recipe))
    assert accuracy(network, data, every) > 0.95
    again = rounded_to_half(fit(data, every, recipe))
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )
    save_features(network, tmp_path / "small", name="small", version="3", facts={}, card="card")
    loaded = load_features(str(tmp_path / "small"), MODALITY)
    assert (loaded.name, loaded.version, loaded.dim) == ("small", "3", 6)
    x = torch.from_numpy(images[:5]).float() / 127.5 - 1
    torch.testing.assert_close(loaded(x), network(x).detach(), rtol=1e-4, atol=1e-5)


def test_the_command_trains_measures_on_held_out_images_and_writes_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import train_image_features
    from feature_training import command

    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.integers(0, 60, (200, 8, 8), dtype=np.uint8)
    images[labels == 1, :4] += 150
    np.savez(tmp_path / "labelled.npz", arr_0=images, arr_1=labels)
    np.savez(tmp_path / "bare.npz", arr_0=images)
    words = ["train_features", "--out", str(tmp_path / "out"), "--name", "mine", "--recipe.channels", "4"]
    words += ["--recipe.dim", "5", "--recipe.epochs", "2", "--recipe.batch-size", "20"]
    monkeypatch.setattr(sys, "argv", [*words, "--data", f"npz:{tmp_path / 'labelled.npz'}"])
    command(train_image_features.train_features)
    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (facts["train_images"], facts["test_images"]) == (180, 20)
    assert facts["recipe"]["epochs"] == 2
    loaded = load_features(str(tmp_path / "out"), MODALITY)
    assert (loaded.name, loaded.dim, loaded.shape) == ("mine", 5, (1, 8, 8))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "20 test images" in card
    assert f"{facts['accuracy']:.2%}" in card
    monkeypatch.setattr(sys, "argv", [*words, "--data", f"npz:{tmp_path / 'bare.npz'}"])
    with pytest.raises(SystemExit) as stopped:
        command(train_image_features.train_features)
    assert stopped.value.code == 2
    assert "trained on labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((64, 1, 8, 9), 2, "square images, got 8x9"),
        ((64, 1, 8, 8), 1, "fewer than two classes"),
        ((8, 1, 8, 8), 2, "8 examples"),
    ],
)
def test_training_refuses_what_it_cannot_use(shape: tuple[int, ...], classes: int, message: str) -> None:
    from feature_training import ClassifierRecipe
    from train_image_features import fit

    images, labels = torch.zeros(shape, dtype=torch.uint8), torch.arange(shape[0]) % classes
    data = Dataset.from_tensors(images, label=labels)
    with pytest.raises(ValueError, match=message):
        fit(data, np.arange(len(data)), ClassifierRecipe(channels=(4,), batch_size=32))
