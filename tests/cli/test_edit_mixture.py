"""``unistep edit --solver mixture``: from the samples of a model to a restored file, and what is refused."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.standins import save_pictures, save_world
from unistep.editing.mixture import fit_mixture
from unistep.generation import mixtures


@pytest.fixture
def asked(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A picture, few samples, and the names of the models whose samples are asked for."""
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(place / "in.png")
    names: list[str] = []
    made = mixtures.mixture_of

    def recorded(generator, **given):
        names.append(generator.name)
        return made(generator, **given)

    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mixtures, "SAMPLES", 30)
    monkeypatch.setattr(mixtures, "fit_mixture", functools.partial(fit_mixture, clusters=2, rank=4))
    monkeypatch.setattr(mixtures, "mixture_of", recorded)
    return names


def test_a_teacher_takes_the_samples_of_its_student(run, asked) -> None:
    words = "edit inpaint fashion-teacher in.png --mask 7,7,21,21 --steps 2 --solver mixture"
    outcome = run(words, "-o out.png")
    assert (outcome.code, outcome.err) == (0, "")
    assert "what is known is kept to 0.0e+00" in outcome.out
    assert run(words, "--prior fashion-teacher -o other.png").code == 0
    assert run("edit inpaint fashion in.png --mask left --solver mixture -o third.png").code == 0
    assert asked == ["fashion", "fashion-teacher", "fashion"]
    with Image.open("out.png") as one, Image.open("other.png") as other:
        assert (np.asarray(one) != np.asarray(other)).any()


def test_its_parameters_are_tuned_and_kept_apart(run, place, asked, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("unistep.cli.edit_tuning.ITEMS", 3)
    monkeypatch.setattr("unistep.editing.search.COARSE", {"first": (0.3,)})
    monkeypatch.setattr("unistep.editing.search.GRID", {"first": (2.0,), "estimated": (0.0,)})
    save_pictures(place / "mine", count=4)
    outcome = run("edit upscale fashion --factor 2 --steps 2 --solver mixture --tune folder:mine")
    assert (outcome.code, outcome.err) == (0, "")
    assert "upscale-mixture in 2 steps on 3 items of folder:mine: PSNR " in outcome.out
    (kept,) = (tmp_path / "cache" / "editing").iterdir()
    assert list(json.loads(kept.read_text())) == ["upscale-mixture/2"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("denoise fashion in.png --solver mixture", "and denoise is none; take the solver back-projection"),
        ("upscale fashion in.png --prior fashion", "--prior belongs to --solver mixture, not to back-projection"),
        ("upscale fashion in.png --solver mixture --prior fashon", "no model 'fashon'; did you mean 'fashion'"),
        ("inpaint fashion in.png --mask left --solver mixture --prior world", "name another --prior"),
        ("colorize world in.mp4 --solver mixture", "mixture edits whole signals, and world generates streams"),
    ],
)
def test_what_it_cannot_do_is_one_line(words, line, run, place, asked) -> None:
    save_world(place / "world")
    (place / "in.mp4").write_bytes(b"")
    outcome = run("edit", words, "-o out.png")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert line in outcome.err
    assert not os.path.exists("out.png")
    assert not asked
