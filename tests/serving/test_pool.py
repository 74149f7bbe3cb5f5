"""The models of a server: by name alone, and no more of them than memory holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unistep.codecs.autoencoder import AutoencoderConfig
from unistep.serving.pool import Pool, Served, UnknownModelError
from unistep.serving.settings import Settings


def test_models_are_known_by_the_names_of_their_folders(models):
    pool = Pool(Settings(models=models))
    assert list(pool.configs) == ["fashion", "notes", "phrases", "racing"]
    assert not pool.loaded
    served = pool.get("notes")
    assert served.name == served.generator.name == "notes"
    assert len(served.model_hash) == 64
    assert pool.get("notes") is served
    assert list(pool.loaded) == ["notes"]


@pytest.mark.parametrize("name", ["fashoin", "", "../notes", "/etc/passwd", "notes/", "a" * 10_000, "owner/name"])
def test_nothing_else_is_ever_loaded(models, name):
    pool = Pool(Settings(models=models))
    for ask in (pool.config, pool.get):
        with pytest.raises(UnknownModelError) as error:
            ask(name)
        assert "fashion" in str(error.value)
        assert len(str(error.value)) < 300
    assert not pool.loaded


def test_a_model_in_place_is_no_name(models):
    pool = Pool(Settings(models=models[:1]))
    with pytest.raises(UnknownModelError):
        pool.get(models[1])


def test_two_models_of_one_name_are_refused(models, tmp_path):
    (tmp_path / "notes").symlink_to(models[1])
    with pytest.raises(ValueError, match="two models would be called 'notes'"):
        Pool(Settings(models=(models[1], str(tmp_path / "notes"))))


def test_the_longest_unused_is_dropped_where_memory_is_short(models):
    sizes = {name: Pool(Settings(models=models)).get(name).bytes for name in ("fashion", "notes", "phrases", "racing")}
    budget = sizes["fashion"] + sizes["notes"] + sizes["phrases"]
    pool = Pool(Settings(models=models, memory=budget))
    for name in ("fashion", "notes", "phrases"):
        pool.get(name)
    pool.get("fashion")
    pool.get("racing")
    assert "notes" not in pool.loaded  # the longest unused
    assert "racing" in pool.loaded
    assert sum(one.bytes for one in pool.loaded.values()) <= budget


def test_a_model_with_live_streams_stays(models):
    pool = Pool(Settings(models=models, memory=1))
    streaming = pool.get("phrases")
    streaming.streams = 1
    pool.get("fashion")
    assert set(pool.loaded) == {"phrases", "fashion"}
    pool.get("notes")
    assert set(pool.loaded) == {"phrases", "notes"}
    streaming.streams = 0
    pool.get("racing")
    assert set(pool.loaded) == {"racing"}


def test_shipped_models_are_served_by_default_where_they_take_few_steps():
    pool = Pool(Settings())
    assert {"fashion", "notes", "racing"} <= set(pool.configs)
    assert not [name for name in pool.configs if name.endswith("-teacher")]
    assert not pool.loaded
    assert all(Path(folder).is_dir() for folder in pool.folders.values())


def test_a_model_is_called_as_on_the_hub_or_as_the_folder_that_one_is_in(models, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.chdir(models[0])
    pool = Pool(Settings(models=(".",)))
    assert list(pool.configs) == ["fashion"]
    monkeypatch.chdir(tmp_path)  # as a game does that begins
    assert pool.get("fashion").name == "fashion"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(models[0])
    monkeypatch.chdir(tmp_path / "run")
    assert list(Pool(Settings(models=(".",))).configs) == ["run"]
    snapshot = tmp_path / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir()
    snapshot.symlink_to(models[1])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(snapshot))
    assert list(Pool(Settings(models=("someone/notes",))).configs) == ["someone/notes"]


def test_the_weights_of_a_codec_take_memory_too():
    codec = AutoencoderConfig(widths=(8,), latents=3).build((3, 8, 8))
    with_codec, without = (
        Served(name="x", model_hash="", generator=SimpleNamespace(map=torch.nn.Linear(2, 3), codec=one))  # type: ignore[arg-type]
        for one in (codec, torch.nn.Identity())
    )
    assert without.bytes == 4 * 9
    weights = sum(one.numel() for one in codec.state_dict().values())
    assert with_codec.bytes == 4 * (9 + weights)
