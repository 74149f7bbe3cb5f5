"""An image as the condition of an image: a folder of pairs is learned, and a file is coloured from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import unistep
from training.tiny import NETWORK, run, run_config
from unistep.cli.main import main
from unistep.core.condition import Signal, SignalField, null_condition
from unistep.data import data_config, prepare
from unistep.modalities.image import ImageModality

NUM = 12


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve colour pictures, each with its grey version, the last without."""
    folder, source = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    lines = []
    for kind in ("colour", "grey"):
        (folder / kind).mkdir()
    for i in range(NUM):
        image = Image.fromarray(source.integers(0, 256, (8, 8, 3), np.uint8))
        image.save(folder / "colour" / f"{i:02}.png")
        image.convert("L").save(folder / "grey" / f"{i:02}.png")
        line: dict[str, Any] = {"file_name": f"colour/{i:02}.png", "caption": "a picture, not a file"}
        lines.append(line | ({} if i == NUM - 1 else {"source": f"grey/{i:02}.png"}))
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, with dropped conditions."""
    folder = tmp_path_factory.mktemp("paired")
    config = run_config(
        "denoising", folder, data=data_config(f"folder:{pairs}", size=8, augment=("flip",)), max_steps=2
    )
    model = replace(config.model, network=replace(NETWORK, num_classes=0), modality=ImageModality(size=8, channels=3))
    done, text = run(replace(config, model=model), folder / "run")
    assert done, text
    return folder / "run"


def test_pairs_are_read_and_kept_together(pairs: Path) -> None:
    dataset = prepare(data_config(f"folder:{pairs}", size=8), progress=False)
    assert dict(dataset.fields) == {"source": SignalField(shape=(3, 8, 8))}
    stored, condition = dataset.batch([4, NUM - 1, 0])
    source = condition["source"]
    assert isinstance(source, Signal)
    assert source.has_condition().tolist() == [True, False, True]
    assert not source.signal[1].any()
    grey = np.asarray(Image.open(pairs / "grey" / "04.png"), np.float32) / 127.5 - 1
    torch.testing.assert_close(source.signal[0], torch.from_numpy(grey).expand(3, 8, 8), rtol=0, atol=1e-6)
    colour = np.asarray(Image.open(pairs / "colour" / "04.png")).transpose(2, 0, 1)
    assert np.array_equal(stored[0].numpy(), colour)
    again = prepare(data_config(f"folder:{pairs}", size=8), progress=False)
    assert again.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("names", [("flip", "crop"), ("edm:1",)])
def test_a_reference_is_augmented_as_its_item(pairs: Path, names: tuple[str, ...]) -> None:
    dataset = prepare(data_config(f"folder:{pairs}", size=8, augment=names), progress=False)
    for seed in range(6):
        stored, condition = dataset.batch([4], [seed])
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
        grey = (stored[0].float() * weights).sum(dim=0) / 127.5 - 1
        source = condition["source"]
        assert isinstance(source, Signal)
        torch.testing.assert_close(source.signal[0, 0], grey, rtol=0, atol=2 / 127.5)


def test_a_changed_reference_is_prepared_anew(pairs: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(pairs, copy)
    before = prepare(data_config(f"folder:{copy}", size=8), progress=False).fingerprint
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(copy / "grey" / "00.png")
    assert prepare(data_config(f"folder:{copy}", size=8), progress=False).fingerprint != before


def test_an_item_whose_reference_is_broken_is_skipped_by_name(pairs: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(pairs, copy)
    (copy / "grey" / "03.png").write_bytes(b"no picture")
    dataset = prepare(data_config(f"folder:{copy}", size=8, max_bad=0.5), progress=False)
    assert len(dataset) == NUM - 1
    (skipped,) = dataset.summary.skipped
    assert skipped.name == "colour/03.png"
    assert "its source grey/03.png" in skipped.reason


def test_the_network_takes_the_reference(trained: Path, pairs: Path) -> None:
    model = unistep.load(trained)
    assert model.config.fields == {"source": SignalField(shape=(3, 8, 8))}
    assert model.config.network.signals == {"source": 3}  # type: ignore[attr-defined]
    net = model.map.net
    assert any(p.any() for p in net.signals["source"].input.parameters())  # type: ignore[index, union-attr]
    condition = {"source": Signal.clean(torch.rand(2, 3, 8, 8))}
    x, t = torch.randn(2, 3, 8, 8), torch.ones(2)
    with torch.no_grad():
        assert not torch.equal(model.map(x, t, None, condition), model.map(x, t, None, null_condition(condition)))


def test_it_is_sampled_from_files_and_tensors(trained: Path, pairs: Path) -> None:
    model = unistep.load(trained)
    files = [pairs / "grey" / f"{i:02}.png" for i in range(3)]
    many = model.sample(3, seed=5, steps=2, source=files)
    for i, file in enumerate(files):
        torch.testing.assert_close(model.sample(1, seed=5 + i, steps=2, source=str(file))[0], many[i])
    tensors = torch.stack([model.modality.load(file) for file in files])
    assert torch.equal(model.sample(3, seed=5, steps=2, source=tensors), many)
    assert torch.equal(model.sample(3, seed=5, steps=2, source=Signal.clean(tensors)), many)
    guided = model.sample(3, seed=5, steps=2, source=files, guidance=2.0)
    assert guided.shape == many.shape
    with pytest.raises(ValueError, match=r"source must be a signal of shape 3 x 8 x 8, got \[3, 8, 4\]"):
        model.sample(1, source=torch.zeros(3, 8, 4))


def test_a_file_is_given_on_the_command_line(
    trained: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out, source = unistep.load(trained).config, tmp_path / "out.npz", pairs / "grey" / "02.png"
    net = config.build().net
    with torch.no_grad():  # two steps of training leave the output nearly at zero
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    unistep.save(config, net.state_dict(), tmp_path / "model", "# colours\n")
    words = ["-n", "1", "--steps", "1", "--device", "cpu"]
    assert main(["sample", str(tmp_path / "model"), *words, "--source", str(source), "-o", str(out)]) == 0
    model = unistep.load(tmp_path / "model", device="cpu")
    stored = torch.from_numpy(np.load(out)["arr_0"]).permute(0, 3, 1, 2)
    assert torch.equal(stored, model.modality.to_stored(model.sample(1, steps=1, source=source)))
    without = model.modality.to_stored(model.sample(1, steps=1))
    assert (stored.float() - without.float()).abs().max() > 10  # of 255 levels
    assert main(["sample", str(trained), "-n", "1", "--source", "missing.png", "-o", str(out)]) == 2
    assert "missing.png" in capsys.readouterr().err
