"""The Hugging Face source against a small stand-in for the package ``datasets``, which is not installed for tests."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

from image_files import noisy
from unistep.data import DataConfig, prepare


@dataclass(frozen=True)
class Image:
    decode: bool = True


@dataclass(frozen=True)
class ClassLabel:
    names: list = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    rows: list
    features: dict

    @property
    def num_rows(self):
        return len(self.rows)

    @property
    def cache_files(self):
        return [{"filename": "/somewhere/version-1.arrow"}]

    def select_columns(self, names):
        return replace(self, features={name: self.features[name] for name in names})

    def cast_column(self, name, kind):
        return replace(self, features={**self.features, name: kind})

    def __getitem__(self, i):
        (column,) = (name for name, kind in self.features.items() if isinstance(kind, Image))
        assert not self.features[column].decode
        return {name: self.rows[i][name] for name in self.features}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Five rows: bytes, a path, a broken picture, none, bytes; with classes and a caption."""
    stream = io.BytesIO()
    noisy(32, 32, 0).save(stream, "PNG")
    noisy(32, 32, 1).save(tmp_path / "b.png")
    pictures = [
        {"bytes": stream.getvalue(), "path": None},
        {"bytes": None, "path": str(tmp_path / "b.png")},
        {"bytes": b"broken", "path": "c.png"},
        None,
        {"bytes": stream.getvalue(), "path": None},
    ]
    rows = [{"text": "x", "picture": p, "kind": i % 2} for i, p in enumerate(pictures)]
    table = Table(rows, {"text": str, "picture": Image(), "kind": ClassLabel(["cat", "dog"])})

    def load_dataset(name, split):
        if name != "some/pets":
            raise FileNotFoundError(f"Dataset '{name}' doesn't exist\nlong\nexplanation")
        if split != "train":
            raise ValueError(f"Unknown split \"{split}\". Should be one of ['train'].")
        return table

    module = SimpleNamespace(load_dataset=load_dataset, Image=Image, ClassLabel=ClassLabel)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return table


@pytest.mark.parametrize("source", ["hf:some/pets", "hf:some/pets:train"])
def test_rows_with_labels_and_broken_ones_by_name(hub, source):
    dataset = prepare(DataConfig(source=source, max_bad=0.5), progress=False)
    assert dataset.source == "hf:some/pets:train"
    assert dataset.values.shape == (3, 3, 32, 32)
    assert np.array_equal(dataset.values[1].transpose(1, 2, 0), np.asarray(noisy(32, 32, 1)))
    assert dataset.labels.tolist() == [0, 1, 0]
    assert dataset.label_names == ("cat", "dog")
    assert [(item.name, item.reason) for item in dataset.summary.skipped] == [
        ("row 2", "not a picture"),
        ("row 3", "no image in this row"),
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [("hf:some/pest", "doesn't exist"), ("hf:some/pets:test", "Unknown split")],
)
def test_what_is_not_there_is_one_line(hub, source, words):
    with pytest.raises(ValueError, match=words) as caught:
        prepare(DataConfig(source=source), progress=False)
    assert "\n" not in str(caught.value)


def test_no_image_column(hub, monkeypatch):
    hub.features.pop("picture")
    with pytest.raises(ValueError, match="no image column; its columns are text, kind"):
        prepare(DataConfig(source="hf:some/pets"), progress=False)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"unistep\[data\]"):
        prepare(DataConfig(source="hf:some/pets"), progress=False)
