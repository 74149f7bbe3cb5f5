"""A network of another package goes everywhere that our own goes: no room knows which network it has."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import forks
import unistep
from unistep import registry
from unistep.cli.main import main
from unistep.core.condition import Label, Scalar, Signal, Tokens, Vector
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.generation.model_config import ModelConfig
from unistep.modalities.image import ImageModality
from unistep.nets.config import NetworkConfig
from unistep.nets.unet import UNetConfig
from unistep.objectives import ECTConfig
from unistep.serialization import from_plain, to_plain

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from tiny import assert_same, make_data, run, run_config

ELSEWHERE = Path(__file__).parent / "elsewhere"
"""A folder that holds an installed package: a module and the metadata with its entry point."""
METHODS = ("ect", "denoising", "meanflow", "ctm-gan")


@pytest.fixture(scope="module", autouse=True)
def _plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package is installed, and the process has not looked for plugins yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ELSEWHERE))
        patch.setattr(registry, "_plugins_loaded", False)
        patch.setenv("UNISTEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


def network(**options: Any) -> NetworkConfig:
    return registry.lookup("network", "perceptron")(**options)


def config_of(method: str, folder: Path, **changes: Any) -> Any:
    """A tiny run of a method with the foreign network in the place of ours, without a teacher that is ours."""
    config = run_config(method, folder, teacher=None, checkpoint_every="4", keep=9, **changes)
    objective = ECTConfig(target="data") if method == "ect" else config.objective
    return replace(config, model=replace(config.model, network=network()), objective=objective)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps in one go."""
    folder = tmp_path_factory.mktemp("foreign")
    done, text = run(config_of("ect", folder, max_steps=12), folder / "run")
    assert done, text
    return folder / "run"


def test_it_is_found_by_name_only() -> None:
    config = ModelConfig(kind="consistency", network=network(hidden=3), modality=ImageModality(size=8, channels=1))
    plain = to_plain(config)
    assert plain["network"]["type"] == "perceptron"
    assert from_plain(ModelConfig, plain) == config


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_by_methods_of_every_kind(method: str, tmp_path: Path) -> None:
    config = config_of(method, tmp_path, max_steps=2)
    if config.objective.starts_from_teacher:
        done, text = run(config_of("denoising", tmp_path, max_steps=2), tmp_path / "first")
        assert done, text
        config = replace(config, teacher=str(tmp_path / "first"))
    done, text = run(config, tmp_path / "out")
    assert done, text
    assert unistep.load(tmp_path / "out").sample(2).shape == (2, 1, 8, 8)


def test_an_interrupted_run_goes_on_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    cut = tmp_path / "run"
    shutil.copytree(trained, cut)
    for folder in (cut / "checkpoints").glob("[0-9]*"):
        if int(folder.name) > 4:
            shutil.rmtree(folder)
    shutil.rmtree(cut / "model")
    done, text = run(config_of("ect", trained.parent, max_steps=12), cut, resume=True)
    assert done, text
    assert "going on after step 4" in text
    assert_same(trained, tmp_path / "run")


def test_it_is_saved_loaded_and_sampled_by_folder(trained: Path, tmp_path: Path) -> None:
    model = unistep.load(trained)
    assert isinstance(model.config.network, type(network()))
    assert model.config.network.size == 64  # type: ignore[attr-defined]
    unistep.save(model.config, model.map.net.state_dict(), tmp_path / "copy", "# a copy\n")
    again = unistep.load(tmp_path / "copy")
    samples = model.sample(3, seed=5, label=1)
    assert torch.equal(again.sample(3, seed=5, label=1), samples)
    assert torch.allclose(model.sample(2, seed=6, label=1), samples[1:], atol=1e-5)
    assert samples.abs().max() <= 1


def test_it_is_used_from_the_command_line(trained: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data.npz", 80)
    words = ["sample", trained, "-n", "2", "--label", "1", "-o", tmp_path / "out.png"]
    process = forks.Command([str(word) for word in words])  # which has not looked for plugins
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    assert (tmp_path / "out.png").is_file()
    assert main(["info", str(trained)]) == 0
    assert main(["evaluate", str(trained), "--data", f"npz:{data}", "--num", "64", "--features", "pixels"]) == 0


def test_a_recipe_takes_it_by_name(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data.npz", 40)
    words = f"train denoising --data npz:{data} --model.network perceptron --model.network.hidden 5 --max-steps 2"
    assert main([*words.split(), "--batch-size", "8", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    assert unistep.load(tmp_path / "run").config.network.hidden == 5  # type: ignore[attr-defined]


def test_without_its_package_the_model_is_refused_in_one_line(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(ELSEWHERE)])
    process = forks.Command(["sample", str(trained)])
    err = process.communicate(timeout=200)[1].decode()
    assert process.returncode == 2
    assert "unknown network 'perceptron'" in err
    assert "plugin" in err
    assert err.count("\n") == 1


def test_it_starts_from_weights_of_its_kind_only(trained: Path, tmp_path: Path) -> None:
    ours = run_config("denoising", trained.parent, teacher=None, init=str(trained))
    with pytest.raises(ValueError, match="type PerceptronConfig instead of UNetConfig"):
        run(ours, tmp_path / "ours")
    other = replace(config_of("denoising", trained.parent), init=str(trained))
    other = replace(other, model=replace(other.model, network=network(hidden=8)))
    with pytest.raises(ValueError, match="hidden 16 instead of 8"):
        run(other, tmp_path / "other")
    done, text = run(replace(config_of("denoising", trained.parent, max_steps=1), init=str(trained)), tmp_path / "on")
    assert done, text


def test_a_live_module_without_a_configuration_samples() -> None:
    net = torch.nn.Sequential()
    net.forward = lambda x, t, s=None, condition=None: 0.1 * x  # type: ignore[method-assign]
    model = unistep.Generator(ConsistencyModel(net, VarianceExploding()), modality=ImageModality(size=4, channels=1))
    assert model.sample(3, seed=2).shape == (3, 1, 4, 4)


def test_a_live_module_that_knows_its_configuration_is_saved(tmp_path: Path) -> None:
    config = network(hidden=4).fitted((1, 4, 4), {})
    net = config.build()
    net.config = config  # type: ignore[assignment]
    model = unistep.Generator(ConsistencyModel(net, VarianceExploding()), modality=ImageModality(size=4, channels=1))
    unistep.save(model.config, net.state_dict(), tmp_path / "model", "# live\n")
    assert torch.equal(unistep.load(tmp_path / "model").sample(2), model.sample(2))


def test_a_run_with_labels_starts_from_a_base_without(tmp_path: Path) -> None:
    base = ModelConfig(kind="denoiser", network=unet(), modality=ImageModality(size=8, channels=1))
    torch.manual_seed(3)
    unistep.save(base, base.build().net.state_dict(), tmp_path / "base", "# a base\n")
    config = run_config("denoising", tmp_path, init=str(tmp_path / "base"), max_steps=1)
    done, text = run(replace(config, model=replace(config.model, network=unet())), tmp_path / "run")
    assert done, text
    assert unistep.load(tmp_path / "run").sample(1, label=2).shape == (1, 1, 8, 8)


def unet(**options: Any) -> UNetConfig:
    return UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16, **options)


@pytest.mark.parametrize(
    ("base", "wider"),
    [
        (unet(), unet(num_classes=21)),
        (unet(), unet(vocabularies={"pitch": 5}, num_classes=3)),
        (unet(num_classes=3), unet(num_classes=3, scalars={"guidance": 4.0}, vocabularies={"pitch": 5})),
        (unet(), unet(second_time=True)),
        (unet(position_sizes=(8, 8)), unet(position_sizes=(8, 8), basis_functions=4)),
        (unet(num_classes=3), unet(num_classes=3, dropout=0.2)),
        (unet(num_classes=3), unet(num_classes=3, tokens={"text": 6})),
        (unet(num_classes=3), unet(num_classes=3, signals={"source": 3})),
    ],
)
def test_a_wider_network_begins_as_the_one_it_starts_from(base: UNetConfig, wider: UNetConfig) -> None:
    torch.manual_seed(0)
    theirs = base.build().eval()
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    ours = wider.build().eval()
    assert wider.differences(base) == []
    wider.start_from(ours, theirs.state_dict(), base)
    x, t = torch.randn(4, 1, 8, 8), torch.linspace(-1, 1, 4)
    told: dict[str, Any] = {"label": Label(torch.tensor([0, 1, 2, -1]))}
    new = {
        "pitch": Label(torch.tensor([0, 4, -1, 2])),
        "guidance": Scalar(torch.tensor([1.0, 2.0, torch.nan, 4.0])),
        "text": Tokens(torch.randn(4, 5, 6), torch.ones(4, 5, dtype=torch.bool)),
        "source": Signal(torch.randn(4, 3, 8, 8), torch.zeros(4)),
    }
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, t - 1, told | new), theirs(x, t, None, told), rtol=0, atol=1e-6)


def test_a_world_of_other_controls_begins_as_its_start_is_without_any() -> None:
    torch.manual_seed(0)
    base, other = unet(vectors={"action": 3}), unet(vectors={"action": 4})
    theirs = base.build().eval()
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    assert other.differences(base)
    assert other.differences(other.renumbered(base)) == []
    ours = other.build().eval()
    other.start_from(ours, theirs.state_dict(), base)
    x, t = torch.randn(2, 1, 8, 8), torch.linspace(-1, 1, 2)
    with torch.no_grad():
        found = ours(x, t, None, {"action": Vector(torch.randn(2, 4))})
        torch.testing.assert_close(found, theirs(x, t, None, {}), rtol=0, atol=1e-6)
