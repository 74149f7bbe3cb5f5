"""Models on disk: what is written comes back, and what is wrong is one clear line and never executed."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from unistep.core.condition import LabelField
from unistep.core.path import TrigFlow
from unistep.files import DiskError
from unistep.generation.model_config import ModelConfig
from unistep.hub import find, load, models, save
from unistep.modalities.image import ImageModality
from unistep.nets.unet import UNetConfig
from unistep.training.run_files import RunFiles
from unistep.weights import read_weights, write_weights

LOAD = importlib.import_module("unistep.hub.load")  # the package has a function of that name
NETWORK = UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16, num_classes=3, channels=3)
CONFIG = ModelConfig(
    kind="consistency",
    network=NETWORK,
    modality=ImageModality(size=(8, 12), channels=3),
    path=TrigFlow(sigma_data=0.4),
    sigma_data=0.4,
    fields={"label": LabelField(size=3, names=("a", "b", "ü"))},
    times={"2": (1.5, 0.8)},
    provenance={"recipe": "test", "data": "none"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder."""
    net = CONFIG.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    save(CONFIG, net.state_dict(), tmp_path / "model", "# card\n")
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    generator = load(folder)
    assert generator.config == CONFIG
    weights = load_file(folder / "model.safetensors")
    state = generator.map.net.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in state.items())
    assert generator.sample(2, seed=1, steps=2).shape == (2, 3, 8, 12)


def test_items_were_called_images_in_earlier_files(folder: Path) -> None:
    plain = json.loads((folder / "config.json").read_text())
    plain["provenance"] = {"recipe": "test", "images": "640", "seconds": "3"}
    (folder / "config.json").write_text(json.dumps(plain))
    assert load(folder).config.provenance == {"recipe": "test", "items": "640", "seconds": "3"}
    assert (folder / "README.md").read_text() == "# card\n"


def test_saving_again_replaces_all(folder: Path) -> None:
    (folder / "notes.txt").write_text("of the old one")
    save(replace(CONFIG, steps=2), CONFIG.build().net.state_dict(), folder, "# new\n")
    assert load(folder).config.steps == 2
    assert not (folder / "notes.txt").exists()


def test_a_run_is_a_model(folder: Path) -> None:
    assert find(folder.parent) == folder
    assert load(str(folder.parent)).config == CONFIG


def test_a_failed_write_leaves_the_old_model(folder: Path, monkeypatch) -> None:
    def no_space(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskError, match=r"cannot write .*model: No space left on device"):
        save(replace(CONFIG, steps=2), CONFIG.build().net.state_dict(), folder, "# new\n")
    assert load(folder).config.steps == 1
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    weights = {name: value.numpy() for name, value in CONFIG.build().net.state_dict().items()}
    with pytest.raises(ValueError, match=r"weights must be torch tensors, got '.*' of type ndarray; torch.from_numpy"):
        save(CONFIG, weights, tmp_path / "model", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_told_as_text(tmp_path: Path) -> None:
    save(CONFIG, CONFIG.build().net.state_dict(), str(tmp_path / "model"), "")
    assert load(tmp_path / "model").config == CONFIG


def test_no_other_folder_and_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.jpg").write_text("dear")
    (tmp_path / "file").write_text("dear")
    weights = CONFIG.build().net.state_dict()
    with pytest.raises(ValueError, match="pictures: it holds other files; give another folder"):
        save(CONFIG, weights, tmp_path / "pictures", "")
    with pytest.raises(ValueError, match="file: it is a file; give a folder"):
        save(CONFIG, weights, tmp_path / "file", "")
    with pytest.raises(ValueError, match=r"cannot write .*file/model: Not a directory"):
        save(CONFIG, weights, tmp_path / "file" / "model", "")
    assert (tmp_path / "pictures" / "holiday.jpg").read_text() == (tmp_path / "file").read_text() == "dear"


class Bomb:
    """Executed by whoever unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch-legacy"])
def test_a_pickle_is_refused_and_never_unpickled(folder: Path, kind: str, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    path = folder / "model.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"weight": Bomb()}, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(ValueError, match=r"model.safetensors is not a readable safetensors file"):
        load(folder)
    assert not Path("exploded").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("exploded").exists()  # the bomb is live: this is what would have happened


@pytest.mark.parametrize(
    "damage",
    [b"", b"\x00" * 7, b"{}", b"\xff" * 4096, (1 << 62).to_bytes(8, "little") + b"{}", b"<html>404</html>" * 9],
)
def test_damaged_weights_are_named(folder: Path, damage: bytes) -> None:
    (folder / "model.safetensors").write_bytes(damage)
    with pytest.raises(
        ValueError, match=r"model.safetensors is not a readable safetensors file \(.*\); copy or train it"
    ):
        load(folder)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.9, 0.9999])
def test_truncated_weights_are_named(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        load(folder)


@pytest.mark.parametrize("place", [0.0, 0.31, 0.77, 1.0])
def test_a_flipped_bit_is_noticed(folder: Path, place: float) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    content[begin + int(place * (len(content) - begin - 1))] ^= 0x10
    path.write_bytes(content)
    load_file(path)  # to the library the file is sound
    with pytest.raises(
        ValueError,
        match=r"model.safetensors is damaged: its tensors do not fit the checksum in its header; copy or train",
    ) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_the_checksum_is_that_of_the_data_section(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8:end])["__metadata__"]
    assert metadata == {"format": "pt", "sha256": hashlib.sha256(content[end:]).hexdigest()}
    write_weights({"a": torch.arange(3), "é" * 9: torch.ones(2, 2).T}, path)
    assert read_weights(path)["a"].tolist() == [0, 1, 2]
    write_weights({}, path)
    assert read_weights(path) == {}


def test_weights_without_a_checksum_are_accepted(folder: Path) -> None:
    """Models of an earlier version, and of other programs, have none."""
    path = folder / "model.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file(load_file(path), path, metadata=metadata)
        assert load(folder).config == CONFIG


def test_weights_of_another_network(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name, value in weights.items() if value.ndim == 4)
    for changed, message in (
        ({**weights, name: weights[name][:1].clone()}, "size mismatch"),
        ({key: value for key, value in weights.items() if key != name}, "Missing key"),
        ({**weights, "intruder": torch.zeros(2)}, "intruder"),
        ({}, "Missing key"),
    ):
        save_file(changed, path)
        with pytest.raises(ValueError, match=rf"model.safetensors does not fit .*config.json: .*{message}") as caught:
            load(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kindd": "denoiser"}, "no key 'kindd'; did you mean 'kind'"),
        ({"kind": "denoisr"}, "kind: unknown value 'denoisr'; did you mean 'denoiser'"),
        ({"steps": "4"}, "steps: expected int, got '4'"),
        ({"steps": 0}, "steps must be from 1 to 1000, got 0"),
        ({"solver": "heum"}, "unknown solver 'heum'; did you mean 'heun'"),
        ({"network": {"width": [8]}}, "network: UNetConfig has no key 'width'; did you mean 'widths'"),
        ({"network": {"widths": [8], "blocks": [1, 1]}}, "network: widths and blocks need the same length"),
        ({"network": None}, "network: needs a mapping"),
        ({"path": {"type": "TrigFlo"}}, "path: unknown type 'TrigFlo'; did you mean 'TrigFlow'"),
        ({"path": "TrigFlow"}, "path: "),
        ({"path": {"sigma_dat": 0.5}}, "path: VarianceExploding has no key 'sigma_dat'; did you mean"),
        ({"sigma_data": -1.0}, "sigma_data must be positive"),
        ({"times": {"3": [1.0, 0.5]}}, "times must hold N decreasing positive times"),
        ({"times": {"2": [0.5, 1.0]}}, "times must hold N decreasing positive times"),
        ({"modality": {"size": 10**9, "channels": 3}}, "modality: size must be from 1 to 8192 pixels, got 1000000000"),
        (
            {"modality": {"type": "AudioModality", "samples": 10**12}},
            "modality: samples must be .* at most 1,073,741,824, got 1000000000000",
        ),
        ({"modality": {"size": "big", "channels": 3}}, "modality: size: expected int, got 'big', or expected a list"),
        (
            {"fields": {"label": {"size": 3, "name": []}}},
            "fields: label: LabelField has no key 'name'; did you mean",
        ),
    ],
)
def test_a_wrong_config_is_named(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "config.json"
    plain = json.loads(path.read_text())
    plain.update(
        {**change, **({"network": {**plain["network"], **change["network"]}} if change.get("network") else {})}
    )
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_no_json(folder: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe\x00", b"null", b"[1]"):
        (folder / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"config.json: "):
            load(folder)


def test_a_folder_that_is_no_model(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    for place in (folder, tmp_path):
        with pytest.raises(ValueError, match=r"is no model folder: it needs config.json and model.safetensors"):
            load(place)


def test_names_of_the_zoo(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(LOAD, "ZOO", folder.parent)
    assert models() == {"model": folder}
    assert load("model").config == CONFIG
    for wrong in ("modle", "", "model.safetensors", "./model2", "/nowhere/at/all", "a/b/c", "\0", "x" * 5000):
        with pytest.raises(ValueError, match="there is no model") as caught:
            load(wrong)
        assert "model" in str(caught.value).split("valid: ")[1]
    with pytest.raises(ValueError, match=r"there is no model 'modle'; did you mean 'model'\? valid: model, a folder"):
        load("modle")


def test_an_empty_zoo(tmp_path: Path, monkeypatch) -> None:
    for zoo in (tmp_path, tmp_path / "gone"):
        monkeypatch.setattr(LOAD, "ZOO", zoo)
        assert models() == {}
        with pytest.raises(ValueError, match="there is no model 'fashion'"):
            find("fashion")


def test_the_hub_is_asked_for_the_files_of_a_model_and_its_refusal_is_one_line(folder: Path, monkeypatch) -> None:
    import huggingface_hub

    asked = []

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        if repository == "someone/gone":
            raise OSError("no\nnetwork")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load("someone/model").config == CONFIG
    for name in ("someone/model-1.5", "someone/small.en", "Someone/Qwen2.5-like"):
        assert find(name) == folder
        assert asked.pop()[0] == name
    assert asked == [("someone/model", ["config.json", "model.safetensors", "codec.safetensors", "README.md"])]
    with pytest.raises(
        ValueError, match=r"there is no model 'someone/gone' here, and the hub did not give it \(no\)"
    ) as caught:
        load("someone/gone")
    assert "\n" not in str(caught.value)


def test_weights_that_two_layers_share_are_averaged_and_saved_in_both(tmp_path: Path) -> None:
    net = CONFIG.build().net
    net.time[3].weight = net.time[1].weight
    average = {str(i): torch.full_like(p, 0.5) for i, p in enumerate(net.parameters())}
    RunFiles(tmp_path, model=CONFIG).weights(net, average, {})
    found = read_weights(tmp_path / "model" / "model.safetensors")
    assert all(bool((value == 0.5).all()) for value in found.values())
    save(CONFIG, net.state_dict(), tmp_path / "shared", "# card\n")
    time = load(tmp_path / "shared").map.net.time
    assert torch.equal(time[1].weight, time[3].weight)


def test_what_is_no_network_of_the_configuration_is_not_written(folder: Path, tmp_path: Path) -> None:
    """Weights of the map around it have other names, which nobody could load."""
    g = load(folder)
    for config, weights, message in (
        (g.config, g.map.state_dict(), r"weights must be those of the raw network, generator.map.net.state_dict\(\)"),
        (g.config, g.map.net, "weights must be a state, such as generator.map.net.state_dict.., got a UNet"),
        (g, g.map.net.state_dict(), "config must be a ModelConfig, such as generator.config, got a Generator"),
    ):
        with pytest.raises(ValueError, match=message):
            save(config, weights, tmp_path / "new", "")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()
    assert load(folder, lora_scale=np.float32(1)).name == str(folder)  # type: ignore[arg-type]
    for steps in (0, -1):
        with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
            g.times(steps)
