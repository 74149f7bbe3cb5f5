"""A LoRA from a run to a sample: small on disk, the same after a stop, refused by any other base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CLASSES, DEEP, IMAGES, NETWORK, assert_same, make_data, metrics, run, run_config

from unistep.core.condition import LabelField, TokensField
from unistep.data import DataConfig
from unistep.generation.model_config import ModelConfig
from unistep.hub import load, save
from unistep.objectives import DenoisingConfig, ECTConfig
from unistep.serialization import read_json
from unistep.training.lora import LoRAConfig
from unistep.training.run_config import RunConfig


def make_base(folder: Path, seed: int = 1, **changes: object) -> Path:
    """A one-step model, none of whose layers is zero, that knows where its data lies."""
    fields = {"label": LabelField(size=CLASSES)}
    network = replace(NETWORK, dropout=0.0)
    given = {"kind": "consistency", "network": network, "modality": IMAGES, "fields": fields, **changes}
    config = ModelConfig(**given).fitted()  # type: ignore[arg-type]
    torch.manual_seed(seed)
    net = config.build().net
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    save(config, net.state_dict(), folder, "# a base\n")
    return folder


def tuned(folder: Path, **changes: object) -> RunConfig:
    """A run that goes on with the base in a folder, on the data there."""
    given = {
        "teacher": None,
        "init": str(folder / "base"),
        "lora": LoRAConfig(rank=2, alpha=4.0),
        "start_report": 0,
    }
    return replace(run_config("ect", folder, **{**given, **changes}), objective=ECTConfig(target="data"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, data and a run of twelve steps in one go."""
    folder = tmp_path_factory.mktemp("lora")
    make_data(folder / "old.npz", 30)
    make_base(folder / "base", provenance={"data": f"npz:{folder / 'old.npz'}"})
    done, text = run(tuned(folder, start_report=12), folder / "run")
    assert done, text
    (folder / "said.txt").write_text(text)
    return folder


def test_a_run_leaves_a_small_file_that_samples_by_itself(trained: Path) -> None:
    model = trained / "run/model"
    size, whole = ((place / "model.safetensors").stat().st_size for place in (model, trained / "base"))
    assert size < 0.5 * whole
    config = read_json(ModelConfig, model / "config.json")
    assert config.adapter is not None
    assert (config.adapter.rank, config.adapter.alpha) == (2, 4.0)
    assert f"base_model: {trained / 'base'}" in (model / "README.md").read_text()
    tuned, base = load(trained / "run"), load(trained / "base")
    assert tuned.config.adapter is None
    assert tuned.config.provenance["adapter"].startswith("LoRA of rank 2 of ")
    x, y = (generator.sample(4, seed=3) for generator in (tuned, base))
    assert not torch.equal(x, y)
    named = load(trained / "base", lora=trained / "run")
    assert torch.equal(named.sample(4, seed=3), x)
    half = load(trained / "run", lora_scale=0.5).sample(4, seed=3)
    assert not torch.equal(half, x)
    assert not torch.equal(half, y)


def test_at_a_scale_of_zero_it_is_the_base(trained: Path) -> None:
    ours, theirs = load(trained / "run", lora_scale=0).map.net.state_dict(), load(trained / "base").map.net.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_merged_it_is_a_model_like_any_other(trained: Path, tmp_path: Path) -> None:
    tuned = load(trained / "run")
    save(tuned.config, tuned.map.net.state_dict(), tmp_path / "whole", "# merged\n")
    assert torch.equal(load(tmp_path / "whole").sample(3), tuned.sample(3))


def test_it_is_compared_with_the_old_data_and_the_new(trained: Path) -> None:
    line = next(line for line in (trained / "said.txt").read_text().splitlines() if line.startswith("one step"))
    assert all(
        part in line
        for part in ("four steps", "before training", f"old data (npz:{trained / 'old.npz'})", "12 samples")
    )
    found = metrics(trained / "run")[-1]
    assert {
        "compared/one_step",
        "compared/4_steps",
        "compared/base",
        "compared/old_before",
        "compared/old_after",
    } <= found.keys()
    assert f"- distance: {line}" in (trained / "run/model/README.md").read_text()


def test_the_end_names_what_can_be_done_with_a_lora(trained: Path) -> None:
    end = (trained / "said.txt").read_text().partition("what to do next")[2]
    assert f"unistep sample {trained / 'run'} --lora-scale 0.7 -n 16" in end
    assert f"unistep convert {trained / 'run'} -o {trained / 'run'}-merged" in end
    assert "unistep train fd" not in end


def test_a_stopped_run_goes_on_with_the_same_bits(trained: Path) -> None:
    stopped = trained / "stopped"
    config = tuned(trained, checkpoint_every="4")
    assert not run(config, stopped, cancel=_after(5))[0]
    assert run(config, stopped, resume=True)[0]
    assert_same(stopped, trained / "run")


def _after(steps: int):
    asked = iter(range(10_000))
    return lambda: next(asked) > steps


def test_an_adapter_of_another_model_is_refused_in_one_line(trained: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", seed=2)
    larger = make_base(tmp_path / "larger", network=replace(DEEP, dropout=0.0))
    for base in (other, larger):
        message = rf"the LoRA in .* was made for .*base \(\w{{8}}\.\.\.\), not for {base} \(\w{{8}}\.\.\.\)"
        with pytest.raises(ValueError, match=message) as caught:
            load(base, lora=trained / "run")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="other is a whole model: it is no LoRA of"):
        load(trained / "base", lora=other)
    with pytest.raises(ValueError, match="lora_scale has nothing to scale"):
        load(other, lora_scale=0.5)
    with pytest.raises(ValueError, match="lora_scale must be a number"):
        load(trained / "run", lora_scale=float("nan"))


def test_a_base_that_has_gone_or_changed_is_named(trained: Path, tmp_path: Path) -> None:
    folder, moved = tmp_path / "lora", tmp_path / "moved"
    make_base(tmp_path / "base")
    make_data(tmp_path / "data.npz")
    assert run(tuned(tmp_path, max_steps=2), folder)[0]
    x = load(folder).sample(2)
    (tmp_path / "base").rename(moved)
    with pytest.raises(ValueError, match=r"needs its base .*; name it where it is now: load\(BASE, lora="):
        load(folder)
    assert torch.equal(load(moved, lora=folder).sample(2), x)
    make_base(tmp_path / "base", seed=5)
    with pytest.raises(ValueError, match="was made for"):
        load(folder)
    with pytest.raises(ValueError, match=r"the base .* has changed since the run in"):
        run(tuned(tmp_path, max_steps=3), folder, resume=True)


def test_what_cannot_be_adapted_is_refused_before_anything_is_made(trained: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"init": None}, r"a LoRA \(lora.rank 2\) is of a trained model; name it, such as --init fashion"),
        ({"init": str(trained / "run")}, "is a LoRA itself; merge it first"),
        ({"parallel": "fsdp"}, "a LoRA is small: train it with --parallel ddp"),
        ({"lora": LoRAConfig(rank=500)}, "no weight matrix that a LoRA of rank 500"),
    ):
        with pytest.raises(ValueError, match=message):
            run(tuned(trained, **changes), tmp_path / "none")
        assert not (tmp_path / "none").exists()
    make_base(tmp_path / "denoiser", kind="denoiser")
    with pytest.raises(ValueError, match=r"a LoRA goes on with a one-step model, and .* is a denoiser"):
        run(tuned(trained, init=str(tmp_path / "denoiser")), tmp_path / "none")
    with pytest.raises(ValueError, match=r"lora.rank must be 0 \(none\) or more, got -1"):
        LoRAConfig(rank=-1)


def test_a_denoiser_and_other_classes_can_be_adapted(tmp_path: Path) -> None:
    make_base(tmp_path / "base", kind="denoiser", fields={"label": LabelField(size=CLASSES + 2)})
    config = tuned(tmp_path, max_steps=2)
    config = replace(config, objective=DenoisingConfig(), model=replace(config.model, kind="denoiser"))
    assert run(config, tmp_path / "run")[0]
    found = load(tmp_path / "run")
    assert found.config.fields["label"].size == CLASSES  # type: ignore[union-attr]
    assert found.sample(2, steps=2).isfinite().all()
    assert load(tmp_path / "run", lora_scale=0).sample(2, steps=2).isfinite().all()


def test_a_text_of_the_base_can_still_be_given_and_data_takes_its_size(tmp_path: Path) -> None:
    make_base(tmp_path / "base", fields={"text": TokensField(length=4, dim=5)})
    np.savez(tmp_path / "plain.npz", arr_0=np.zeros((12, 8, 8, 3), np.uint8))  # in colour, and the base is grey
    config = tuned(tmp_path, max_steps=2, data=DataConfig(source=f"npz:{tmp_path / 'plain.npz'}"))
    assert run(replace(config, auto=("network",)), tmp_path / "run")[0]
    found = load(tmp_path / "run")
    assert found.signal_shape == (1, 8, 8)
    x, y = found.sample(2), found.sample(2, text=torch.ones(2, 4, 5))
    assert x.shape == y.shape
    assert json.loads((tmp_path / "run/config.json").read_text())["model"]["fields"]["text"]["dim"] == 5


@pytest.mark.parametrize("here", [True, False])
def test_old_data_is_rehearsed_or_samples_where_it_has_gone(trained: Path, tmp_path: Path, here: bool) -> None:
    make_data(tmp_path / "old.npz", 30)
    make_base(tmp_path / "base", provenance={"data": f"npz:{tmp_path / 'old.npz'}"})
    if not here:
        (tmp_path / "old.npz").unlink()
    config = tuned(tmp_path, rehearsal=0.5, max_steps=6, checkpoint_every="3", lora=LoRAConfig())
    done, text = run(config, tmp_path / "run")
    assert done
    source = f"npz:{tmp_path / 'old.npz'}" if here else f"samples of {tmp_path / 'base'}"
    assert f"50% of each batch are of {source}" in text
    assert "6 of 8 images: 48 images, 0.6 passes beside 50% of old images" in text  # 24 new ones over 40
    assert not run(config, tmp_path / "stopped", cancel=_after(3))[0]
    assert run(config, tmp_path / "stopped", resume=True)[0]
    assert_same(tmp_path / "stopped", tmp_path / "run")
    with pytest.raises(ValueError, match=r"rehearsal 0.5 is of a trained model's data; name that model"):
        run(replace(config, init=None), tmp_path / "none")


@pytest.mark.parametrize("first", [True, False], ids=["data then samples", "samples then data"])
def test_what_is_rehearsed_does_not_change_between_two_sessions(tmp_path: Path, first: bool) -> None:
    make_data(tmp_path / "old.npz", 30)
    make_base(tmp_path / "base", provenance={"data": f"npz:{tmp_path / 'old.npz'}"})
    config = tuned(tmp_path, rehearsal=0.5, max_steps=4, lora=LoRAConfig())

    def toggle() -> None:
        here, away = tmp_path / "old.npz", tmp_path / "away.npz"
        here.rename(away) if here.exists() else away.rename(here)

    if not first:
        toggle()
    assert not run(config, tmp_path / "run", cancel=_after(2))[0]
    toggle()
    with pytest.raises(ValueError, match=r"the rehearsed data of .* has changed since the run in .* began"):
        run(config, tmp_path / "run", resume=True)
    toggle()
    assert run(config, tmp_path / "run", resume=True)[0]
