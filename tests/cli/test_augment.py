"""Synthetic items of classes on disk, near-copies, and the measurement, from the command line."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import unistep
from cli.standins import NAMES, save_instrument, save_pictures
from unistep.augmentation import ClassedData, Memorisation, Synthesizer, match_classes
from unistep.data import data_config, prepare
from unistep.evaluation.feature_loading import load_features
from unistep.generation.shards import read_shard
from unistep.provenance import COMPOSITE, TRAINED, read_file


@pytest.fixture
def real(place):
    """Samples of the stand-in pass for real pictures of three of its classes."""
    g = unistep.load("fashion")
    for label in (0, 2, 9):
        folder = place / "real" / NAMES[label]
        folder.mkdir(parents=True)
        for seed in range(6):
            g.save(g.sample(1, seed=1000 * label + seed, label=label), folder / f"{seed}.png", provenance=False)
    return place / "real"


def manifest(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_items_of_every_class_with_a_manifest(run, place, real):
    outcome = run("augment fashion --data folder:real --each 4 --vary 0.5 -o out")
    assert outcome.code == 0, outcome.err
    lines = manifest(place / "out")
    assert Counter(line["class"] for line in lines) == {"T-shirt": 4, "pullover": 4, "boot": 4}
    assert len({line["seed"] for line in lines}) == len(lines)
    varied = [line for line in lines if "variation of" in line]
    assert 0 < len(varied) < len(lines)
    for line in lines:
        mark = read_file(place / "out" / line["file"]).mark
        assert (mark.model, mark.seed, mark.condition) == ("fashion", str(line["seed"]), {"label": line["class"]})
        assert mark.source_type == (COMPOSITE if "variation of" in line else TRAINED)
        assert mark.model_hash == line["model_hash"]
    drawn = next(line for line in lines if "variation of" not in line)
    g = unistep.load("fashion")
    expected = g.modality.to_stored(g.sample(1, seed=drawn["seed"], label=drawn["class"]))[0, 0].numpy().astype(int)
    with Image.open(place / "out" / drawn["file"]) as image:
        found = np.asarray(image).astype(int)
    assert np.abs(found - expected).max() <= 1  # a rounding of the last bit may differ between batch sizes
    assert "near-copies" in (place / "out" / "report.md").read_text()
    assert read_file(place / "out" / "pairs.png").generated
    with Image.open(place / "out" / "pairs.png") as image:
        assert min(image.size) > 28
    assert len(prepare(data_config("folder:out/items"))) == 12


def test_shards_hold_the_same_items(run, place, real):
    left = place / ".shards.0123abcd.tmp" / "items"  # by a process that was killed
    left.mkdir(parents=True)
    assert run("augment fashion --data folder:real --each 4 -o files").code == 0
    assert run("augment fashion --data folder:real --each 4 --shard-size 5 -o shards").code == 0
    assert not left.parent.exists()
    items = [item for path in sorted((place / "shards").glob("*.tar")) for item in read_shard(path)]
    files = [(place / "files" / line["file"]).read_bytes() for line in manifest(place / "files")]
    assert [item.files[".png"] for item in items] == files
    assert [json.loads(item.files[".json"])["class"] for item in items] == [
        line["class"] for line in manifest(place / "shards")
    ]


def test_copies_are_found_and_dropped(place, real):
    """A model that returns a training picture every other time."""
    g = unistep.load("fashion")
    data = ClassedData.of(prepare(data_config("folder:real", channels=1, size=28)))
    features = load_features("pixels", g.modality)
    memorisation = Memorisation(data, None, features)

    class Parrot(Synthesizer):
        def _one_batch(self, classes, seeds, origin):
            x = super()._one_batch(classes, seeds, origin)
            for row, (one, seed) in enumerate(zip(classes, seeds, strict=True)):
                if seed % 2 == 0:
                    x[row] = self.data.signals(self.data.rows(int(one))[:1])[0]
            return x

    parrot = Parrot(g, data, match_classes(data, g.config.fields, "fashion"), memorisation=memorisation)
    made = parrot.make({0: 8, 1: 8})
    dropped = np.concatenate([part.seeds for part in parrot.dropped])
    assert (made.seeds % 2 == 1).all()
    assert set(range(0, 16, 2)) <= set(dropped.tolist())
    assert Counter(made.index.tolist()) == {0: 8, 1: 8} or len(made) < 16
    assert all(part.distance[part.seeds % 2 == 0].max() < 1e-3 for part in parrot.dropped)


def test_a_measurement_says_what_the_model_saw(run, place, real):
    outcome = run(
        "augment fashion --data folder:real --measure --real 3 4 --multiples 1 2 --classifiers 2 "
        "--classifier-steps 4 --keep-copies -o out"
    )
    assert outcome.code == 0, outcome.err
    assert "if those are more than the 9 real items here, a gain is also due to them" in outcome.out
    report = (place / "out" / "measure.md").read_text()
    for part in ("| 3 |", "| 4 |", "| +1x | +2x |", "Per class", "| boot |", "2 classifiers of each kind, 4 steps"):
        assert part in report
    found = json.loads((place / "out" / "measure.json").read_text())["results"]
    assert [result["each"] for result in found] == [3, 4]
    assert all(result["recommendation"].startswith(("yes: ", "no: ")) for result in found)
    assert found[0]["test"] == 6  # 30 % of six of each class, split off first


def test_a_generator_of_the_training_part_alone(run, place, real, monkeypatch):
    from unistep.recipes import recipe

    def small(*arguments, budget, **more):
        made = recipe(*arguments, **more)
        network = unistep.UNetConfig(widths=(8, 16), blocks=(1, 1), middle_blocks=1, head_dim=8, embedding_dim=16)
        from dataclasses import replace

        return replace(made, model=replace(made.model, network=network), max_steps=2, auto=(), auto_compile=False)

    monkeypatch.setattr("unistep.recipes.recipe", small)
    outcome = run(
        "augment new --data folder:real --measure --multiples 1 --classifiers 2 --classifier-steps 2 "
        "--budget 1m --method denoising --steps 2 --keep-copies -o out"
    )
    assert outcome.code == 0, outcome.err
    assert "the generator was trained on the 12 real items of the training part alone" in outcome.out
    assert len(list((place / "out" / "4-each" / "training-part").rglob("*.png"))) == 12


def test_bad_input_is_one_line_and_leaves_nothing(run, place, real):
    (place / "single" / "boot").mkdir(parents=True)
    (place / "single" / "bag").mkdir()
    Image.new("L", (28, 28), 9).save(place / "single" / "boot" / "a.png")
    for i in range(3):
        Image.new("L", (28, 28), i).save(place / "single" / "bag" / f"{i}.png")
    (place / "flat").mkdir()
    Image.new("L", (28, 28), 9).save(place / "flat" / "a.png")
    save_pictures(place / "others")
    save_instrument(place / "instrument")
    (place / "full").mkdir()
    (place / "full" / "mine.txt").write_text("x")
    for words, expected in {
        "fashion --data folder:missing -o out": "missing",
        "fashion --data folder:single -o out": "class 'boot' of folder:single has 1 item",
        "fashion --data folder:single --measure -o out": "class 'boot' of folder:single has 1 item",
        "fashion --data folder:flat -o out": "no classes",
        "fashion --data folder:others -o out": "has no class 'left'",
        "./instrument --data folder:real -o out": "no usable sound",
        "./instrument --data fashion-mnist -o out": "makes sounds",
        "fashion --data folder:real -o full": "not empty",
        "fashion --data folder:real --vary 2 -o out": "--vary must be a share",
        "fashion --data folder:real --vary 0.5 --strength 0 -o out": "--strength must be above 0",
        "fashion --data folder:real --each 0 -o out": "--each must be at least 1",
        f"fashion --data folder:real --seed {2**64} -o out": f"--seed must be from 0 to 2**62, got {2**64}",
        "fashion --data folder:real --budget 5m -o out": "--budget belongs to --measure",
        "new --data folder:real --measure -o out": "a new generator needs --budget",
        "fashion --data folder:real --field colour -o out": "no classes 'colour'",
        "fashion --data folder:real --measure --real 50 -o out": "--real 50 needs at least 50",
        "fashion --data folder:real --measure --multiples 0 -o out": "multiples must be numbers above 0",
        "fashion -o out": "--data is missing",
    }.items():
        outcome = run(f"augment {words}")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), (words, outcome.err)
        assert expected in outcome.err, (words, outcome.err)
        assert not (place / "out").exists() or not list((place / "out").iterdir())


def test_a_full_disk_leaves_nothing(run, place, real, monkeypatch):
    from unistep.augmentation import writing

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing, "_write_report", fail)
    outcome = run("augment fashion --data folder:real --each 2 -o out")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "cannot write out: No space left on device" in outcome.err
    assert not [entry for entry in place.iterdir() if "out" in entry.name]


def test_sounds_too(run, place):
    pytest.importorskip("soundfile")
    save_instrument(place / "instrument")
    g = unistep.load(place / "instrument")
    for name in ("piano", "organ"):
        (place / "notes" / name).mkdir(parents=True)
        for seed in range(4):
            g.save(g.sample(1, seed=seed, instrument=name), place / "notes" / name / f"{seed}.wav")
    words = "augment ./instrument --data folder:notes"
    outcome = run(f"{words} --each 2 -o out")
    assert outcome.code == 2  # the folder's classes could be either of two fields
    assert "several: instrument, pitch; choose one with --field" in outcome.err
    assert run(f"{words} --field instrument --each 2 -o out").code == 0
    assert Counter(line["class"] for line in manifest(place / "out")) == {"organ": 2, "piano": 2}
    assert read_file(place / "out" / "items" / "piano" / "000000.wav").mark.condition == {"instrument": "piano"}
    outcome = run(
        f"{words} --field instrument --measure --multiples 1 --classifiers 2 --classifier-steps 2 --keep-copies -o m"
    )
    assert outcome.code == 0, outcome.err
    assert "3 real items of each class: " in outcome.out
