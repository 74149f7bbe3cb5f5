"""The files of a training part: all of them, of that part alone, or none."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unistep.augmentation.classes import ClassedData
from unistep.augmentation.part import write_part
from unistep.cli.augment import AugmentOptions, synthesizer_for
from unistep.core.condition import LabelField
from unistep.data import Dataset, data_config, prepare
from unistep.data.options import DataConfig
from unistep.modalities.image import ImageModality
from unistep.modalities.video import VideoModality

NAMES = ("a/b", "a_b", "c")


def part(seed: int = 0) -> ClassedData:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8, generator=generator)
    fields = {"label": LabelField(size=3, names=NAMES)}
    modality = ImageModality(size=8, channels=1)
    return ClassedData.of(Dataset.from_tensors(x, modality=modality, fields=fields, label=torch.arange(9) % 3))


def test_classes_whose_names_are_one_as_a_folder_stay_apart(tmp_path):
    write_part(part(), tmp_path / "part")
    files = [path for path in (tmp_path / "part").rglob("*.png")]
    assert Counter(path.parent.name for path in files) == {"a_b": 3, "a_b (2)": 3, "c": 3}
    learned = prepare(data_config(f"folder:{tmp_path / 'part'}", size=8, channels=1))
    assert (len(learned), learned.label_names) == (9, ("a_b", "a_b (2)", "c"))
    model = SimpleNamespace(name="mine", config=SimpleNamespace(fields=dict(learned.fields)))
    options = AugmentOptions(model="new", data="x", out=Path("out"), budget="1m", keep_copies=True)
    made = synthesizer_for(model, options, part(), None)  # type: ignore[arg-type]
    assert made.matched.values == {0: "a_b", 1: "a_b (2)", 2: "c"}


def test_a_part_of_videos_has_their_very_pixels(tmp_path):
    pytest.importorskip("av")
    x = torch.randint(0, 256, (4, 3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fields = {"label": LabelField(size=2, names=("a", "b"))}
    modality = VideoModality(size=8, channels=3, frames=3)
    written = ClassedData.of(Dataset.from_tensors(x, modality=modality, fields=fields, label=torch.arange(4) % 2))
    write_part(written, tmp_path / "part")
    options = modality.as_options().as_written()
    learned = prepare(DataConfig(source=f"folder:{tmp_path / 'part'}", options=options))
    assert torch.equal(learned.batch(range(4), None)[0], x[[0, 2, 1, 3]])


def test_a_part_that_was_broken_off_is_written_anew(tmp_path, monkeypatch):
    encode, calls = ImageModality.encode, []

    def broken(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(ImageModality, "encode", broken)
    with pytest.raises(KeyboardInterrupt):
        write_part(part(), tmp_path / "part")
    assert list(tmp_path.iterdir()) == []
    write_part(part(), tmp_path / "part")
    assert len(list((tmp_path / "part").rglob("*.png"))) == 9


def test_another_part_is_not_taken_for_this_one(tmp_path):
    """A generator of the part of another seed has seen what this one's classifiers are tested on."""
    write_part(part(), tmp_path / "part")
    write_part(part(), tmp_path / "part")
    for other in (part(seed=1), part().only(range(8)), replace(part(), names=("d", "e", "f"))):
        with pytest.raises(ValueError, match="holds another training part, of other data or of a split by"):
            write_part(other, tmp_path / "part")
