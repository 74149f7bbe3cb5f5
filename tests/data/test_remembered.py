"""Data by what a model says of it is the data that it was trained on, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from unistep.data import data_config, prepare
from unistep.data.remembered import data_like, data_provenance


def make_pictures(folder: Path, height: int = 6) -> None:
    folder.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (height, 12), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a picture")


def make_sounds(folder: Path) -> None:
    folder.mkdir()
    for i in range(3):
        time = np.arange(4_000) / 8_000
        soundfile.write(folder / f"{i}.wav", 0.1 * (1 + i) * np.sin(2 * np.pi * (200 + 50 * i) * time), 8_000)


@pytest.mark.parametrize("options", [{"size": 8, "fit": "pad", "background": "black"}, {"fit": "stretch", "size": 8}])
def test_pictures(tmp_path: Path, options: dict[str, Any]) -> None:
    make_pictures(tmp_path / "mine")
    make_pictures(tmp_path / "others", height=9)
    data = data_config(f"folder:{tmp_path / 'mine'}", captions=False, **options)
    first = prepare(data)
    known = data_provenance(data, first.modality)
    assert prepare(data_like(known, first.modality, data.source)).fingerprint == first.fingerprint
    other = replace(data, source=f"folder:{tmp_path / 'others'}")
    assert prepare(data_like(known, first.modality, other.source)).fingerprint == prepare(other).fingerprint


@pytest.mark.parametrize("options", [{"loudness": "keep"}, {"cut": "windows"}])
def test_sounds(tmp_path: Path, options: dict[str, Any]) -> None:
    make_sounds(tmp_path / "mine")
    data = data_config(f"folder:{tmp_path / 'mine'}", sample_rate=8_000, seconds=0.125, **options)
    first = prepare(data)
    again = data_like(data_provenance(data, first.modality), first.modality, data.source)
    assert prepare(again).fingerprint == first.fingerprint


def test_a_split_is_that_of_the_model_and_not_of_other_data() -> None:
    data = data_config("fashion-mnist", split="test", limit=4)
    modality = prepare(data).modality
    known = data_provenance(data, modality)
    assert data_like(known, modality, "fashion-mnist").split == "test"
    assert data_like(known, modality, "emoji").split == "train"


def test_what_the_shape_of_a_model_says_needs_no_option() -> None:
    data = data_config("fashion-mnist:test", size=16, limit=4)
    assert data_provenance(data, prepare(data).modality) == {"data": "fashion-mnist:test"}


@pytest.mark.parametrize("said", ["[1]", "no", '{"split": 5}', '{"options": 3}'])
def test_what_is_no_set_of_options_is_refused(said: str, tmp_path: Path) -> None:
    make_pictures(tmp_path / "mine")
    source = f"folder:{tmp_path / 'mine'}"
    modality = prepare(data_config(source, size=6)).modality
    with pytest.raises(ValueError):  # noqa: PT011  # each in words of its own
        data_like({"data": source, "data options": said}, modality, source)
