"""Recipes: named, documented, complete, and each trains."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from unistep import registry
from unistep.cli.recipes import overview
from unistep.data import DataConfig
from unistep.generation.model_config import KINDS, ModelConfig
from unistep.hub import load, save
from unistep.modalities.video_options import VideoOptions
from unistep.objectives import DriftingConfig, FDConfig, IMMConfig
from unistep.recipes import Method, facts, find_recipe, methods, recipe, recipes, reproductions
from unistep.training.finish import wanted_share
from unistep.training.run import train
from unistep.training.run_config import RunConfig
from video_files import counting, write_video

METHODS, REPRODUCTIONS = list(methods()), list(reproductions())
SILENT = ("fashion", "emoji", "racing", "doom", "moving-fashion")
"""Models of other signals than sounds."""
SMALL = {"widths": (8,), "blocks": (1,), "attention": (), "middle_blocks": 1, "embedding_dim": 16, "head_dim": 8}


def picture_archive(path: Path) -> DataConfig:
    """24 pictures of 8 by 8 in two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    np.savez(path, arr_0=pixels, arr_1=np.arange(24) % 2)
    return DataConfig(source=f"npz:{path}")


def sound_folder(folder: Path) -> DataConfig:
    """8 sounds in two classes."""
    for i in range(8):
        part = folder / str(i % 2)
        part.mkdir(parents=True, exist_ok=True)
        soundfile.write(part / f"{i}.wav", np.random.default_rng(i).normal(size=3_000) * 0.1, 8_000)
    return DataConfig(source=f"folder:{folder}")


def test_there_is_one_for_every_method() -> None:
    assert set(METHODS) == {
        *{"denoising", "ect", "ct", "cd", "ict", "sct", "scd", "tcm", "pcm", "ctm", "meanflow", "meanflow-distilled"},
        *{"imf", "shortcut", "imm", "drifting", "fd"},
    }
    assert {f"fashion/{name}" for name in METHODS} <= set(REPRODUCTIONS)
    assert list(recipes()) == METHODS + REPRODUCTIONS


@pytest.mark.parametrize("name", METHODS + REPRODUCTIONS)
def test_a_recipe_states_what_it_needs(name: str) -> None:
    made = recipes()[name]()
    assert made == recipes()[name]()
    what, stated = facts(name)
    assert what
    assert re.search(r"arXiv \d{4}\.\d{5}", stated["Paper"])
    needed = made.objective.starts_from_teacher or getattr(made, "teacher", None) is not None or name == "tcm"
    assert stated["Needs a teacher"].startswith("yes" if needed else "no")
    kind = made.kind if isinstance(made, Method) else made.model.kind
    assert (kind == "denoiser") == name.endswith("denoising")
    assert made.objective.trains is KINDS[kind]


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_a_reproduction_is_complete(name: str) -> None:
    config = reproductions()[name]
    assert config.recipe == name
    assert config.auto == ()
    assert {"Data", "Hardware", "Time", "Expected"} <= set(facts(name)[1])


@pytest.mark.parametrize("model", ["fashion", "notes", "drums", "phrases", "fashion-teacher", "notes-teacher", "emoji"])
def test_a_shipped_model_names_a_recipe_that_gives_its_network(model: str) -> None:
    config = load(model).config
    made = reproductions()[config.provenance["recipe"]]
    for key in ("widths", "blocks", "embedding_dim", "patch"):
        assert getattr(made.model.network, key) == getattr(config.network, key)
    assert made.model.kind == config.kind


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion-ect", "fashion-ect is now fashion/ect"),
        ("notes-teacher", "notes-teacher is now notes/denoising"),
        ("fashion-meanflow-distilled", "fashion-meanflow-distilled is now fashion/meanflow-distilled"),
        ("etc", "there is no recipe 'etc'; did you mean 'ect'?"),
        ("fashion/etc", "did you mean 'fashion/ect'?"),
    ],
)
def test_another_name_gets_a_hint(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        find_recipe(name)
    assert "\n" not in str(caught.value)


def test_a_method_says_what_data_to_give() -> None:
    with pytest.raises(ValueError, match="ect is a method and needs data, such as --data folder:my_pictures"):
        recipe("ect")


def test_the_table_fits_a_screen() -> None:
    lines = overview()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert all(any(line.split()[:1] == [name] for line in lines) for name in METHODS)


def test_a_plugin_adds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._added, "recipe", {})

    @registry.register("recipe", "mine")
    def mine() -> Method:
        """My method.

        Needs a teacher: no.
        Paper: arXiv 2000.00000.
        """
        return replace(recipes()["ect"](), budget="1m")  # type: ignore[return-value]

    assert recipes()["mine"] is mine
    assert facts("mine")[0] == "My method."
    assert any(line.startswith("mine ") for line in overview())
    assert recipe("mine", "fashion-mnist").budget == "1m"


def test_the_signal_decides_network_and_options(tmp_path: Path) -> None:
    pictures = recipe("ect", picture_archive(tmp_path / "data.npz"))
    sounds = recipe("ect", sound_folder(tmp_path / "mine"))
    assert (pictures.model.network.dims, sounds.model.network.dims) == (2, 1)
    assert pictures.objective == find_recipe("ect")().objective != sounds.objective
    left = ("network", "batch_size", "init", "size", "curriculum", "optimizer", "finish_share")
    assert pictures.auto == sounds.auto == left
    assert (wanted_share(pictures), wanted_share(sounds)) == (0.2, 0.0)  # as measured
    assert wanted_share(replace(pictures, auto=())) == 0.0
    assert "finish_share" not in recipe("ect", "fashion-mnist", finish_share=0.1).auto
    assert pictures.recipe == sounds.recipe == "ect"
    assert recipe("ect", "fashion-mnist", budget="1m").budget == "1m"


@pytest.mark.parametrize("overrides", [{"objektive": {}}, {"objective": {"tmes": 1}}])
def test_an_override_of_no_field_is_refused(overrides: dict[str, object]) -> None:
    made = find_recipe("ect")()
    assert isinstance(made, Method)
    with pytest.raises(ValueError, match="has no field"):
        made.tuned(overrides)


@pytest.mark.parametrize(("name", "signal"), [*((name, "pictures") for name in METHODS), ("ect", "sounds")])
def test_a_method_trains_on_ones_own_data(name: str, signal: str, tmp_path: Path, monkeypatch) -> None:
    """With its own objective, optimizer, schedule and averages, around a small network."""
    own = sound_folder(tmp_path / "mine") if signal == "sounds" else picture_archive(tmp_path / "data.npz")
    config = _small(recipe(name, own))
    shape = _train(config, tmp_path, monkeypatch)
    assert shape == ((1, 16_000) if signal == "sounds" else (3, 8, 8))


@pytest.mark.parametrize("name", ["emoji/denoising", "emoji/ect"])
def test_a_reproduction_in_colour_trains_on_ones_own_pictures(name: str, tmp_path: Path, monkeypatch) -> None:
    config = replace(_small(reproductions()[name]), init=None)  # the base has another network than the small one
    config = replace(config, data=replace(config.data, source=picture_archive(tmp_path / "data.npz").source))
    assert _train(config, tmp_path, monkeypatch) == (3, 8, 8)


@pytest.mark.parametrize("name", [name for name in REPRODUCTIONS if name.partition("/")[0] not in SILENT])
def test_a_reproduction_trains_on_ones_own_sounds(name: str, tmp_path: Path, monkeypatch) -> None:
    config = _small(reproductions()[name])
    config = replace(config, data=replace(config.data, source=sound_folder(tmp_path / "mine").source))
    seconds = getattr(config.data.options, "seconds", None) or 1
    assert _train(config, tmp_path, monkeypatch) == (1, round(16_000 * seconds))


@pytest.mark.parametrize("name", [name for name in REPRODUCTIONS if name.startswith(("racing", "doom", "moving"))])
def test_a_reproduction_trains_on_ones_own_videos(name: str, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    (tmp_path / "mine").mkdir()
    write_video(tmp_path / "mine" / "a.mp4", counting(60))
    config = _small(reproductions()[name])
    options: Any = config.data.options or VideoOptions()
    config = replace(
        config, data=replace(config.data, source=f"folder:{tmp_path / 'mine'}", options=replace(options, size=16))
    )
    assert _train(config, tmp_path, monkeypatch) == (3, config.model.modality.shape[1], 16, 16)


def _small(config: RunConfig) -> RunConfig:
    """The run with a small network, for two steps, and as many of the sampler."""
    if isinstance(config.objective, DriftingConfig):
        config = replace(config, objective=replace(config.objective, group=4))
    if isinstance(config.objective, IMMConfig):
        config = replace(config, objective=replace(config.objective, particles=4))
    if isinstance(config.objective, FDConfig):
        config = replace(config, objective=replace(config.objective, population=400))
    network: Any = config.model.network
    model = replace(config.model, network=replace(network, **SMALL), steps=min(2, config.model.steps))
    selection = replace(config.selection, every=min(2, config.selection.every), samples=16)
    return replace(config, auto=(), model=model, max_steps=2, batch_size=8, precision="fp32", selection=selection)


def _train(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """Train it, after a teacher where it needs one, and sample; returns the shape of a sample."""
    monkeypatch.setenv("UNISTEP_CACHE", str(folder / "cache"))
    if config.objective.starts_from_teacher or config.teacher is not None or config.recipe == "tcm":
        config = replace(config, teacher=str(_teacher(config, folder / "teacher")))
    if config.objective.continues:
        config = replace(config, init=str(_teacher(config, folder / "start")))
    assert train(config, folder / "run", device="cpu", console=Console(quiet=True))
    g = load(folder / "run")
    given: Any = {"label": 1} if "label" in g.config.fields else {}
    assert g.sample(2, **given).shape == (2, *g.signal_shape)
    assert g.config.provenance["recipe"] == config.recipe
    return g.signal_shape


def _teacher(config: RunConfig, folder: Path) -> Path:
    network: Any = config.model.network
    signal: dict[str, Any] = {"modality": config.model.modality, "codec": config.model.codec}
    network = replace(network, num_classes=2, channels=network.channels if network.dims == 1 else 3, second_time=False)
    kind: Any = next(kind for kind, made in KINDS.items() if made is config.objective.teacher_kind)
    teacher = ModelConfig(kind=kind, network=network, **signal, context=config.model.context)
    save(teacher, teacher.build().net.state_dict(), folder, "")
    return folder
