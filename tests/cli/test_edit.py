"""``unistep edit``: each task from files to files, and every mistake in one line that leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cli.standins import save_instrument, save_pictures, save_stream, save_world, save_writer
from unistep.modalities.video import VideoModality
from unistep.provenance import COMPOSITE, TRAINED, read_file

TASKS = [
    "inpaint --mask center",
    "inpaint --mask 2,2,9,20+ellipse:12,12,26,26",
    "inpaint --mask random:0.5 --sigma 0.1",
    "outpaint --border 4,0,4,8",
    "upscale --factor 2",
    "upscale --factor 2.8",
    "deblur --kernel gaussian:1.2",
    "deblur --kernel motion:5:20 --sigma 0.05",
    "denoise",
    "denoise --sigma 0.3",
    "declip --level 0.6",
    "sketch --strength 0.6",
    "vary --strength 0.2 --mask left",
]


@pytest.fixture
def picture(place: Path) -> Path:
    random = np.random.default_rng(1)
    path = place / "in.png"
    Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(path)
    return path


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).astype(int)


@pytest.mark.parametrize("words", TASKS)
def test_each_task_makes_a_picture(words: str, run, picture):
    task, _, options = words.partition(" ")
    outcome = run(f"edit {task} fashion in.png {options} --steps 2 -o out.png")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"1 image by {task} with fashion in " in outcome.out
    assert "2 network calls each" in outcome.out
    assert pixels("out.png").shape == (28, 28)


def test_what_is_known_stays(run, picture):
    outcome = run("edit inpaint fashion in.png --mask 7,7,21,21 -o out.png")
    assert "what is known is kept to 0.0e+00" in outcome.out
    before, after = pixels("in.png"), pixels("out.png")
    inside = np.zeros((28, 28), bool)
    inside[7:21, 7:21] = True
    assert (before == after)[~inside].all()
    assert np.abs(before - after)[inside].mean() > 5


@pytest.mark.parametrize("solver", ["replacement", "back-projection"])
def test_low_resolution_is_kept_by_both_solvers(solver, run, place, picture):
    Image.open("in.png").resize((7, 7)).save("small.png")
    assert run(f"edit upscale fashion small.png --solver {solver} -o large.npz").code == 0
    with np.load("large.npz") as file:
        large = file["arr_0"][0, :, :, 0].astype(float)
    means = large.reshape(7, 4, 7, 4).mean(axis=(1, 3))
    assert np.abs(means - pixels("small.png")).max() <= 0.5 + 1e-3  # a rounding to whole pixel values


def test_a_folder_is_edited_file_by_file_whatever_the_batch(run, place):
    save_pictures(place / "mine", count=5)
    flat = place / "flat"
    flat.mkdir()
    for path in (place / "mine").rglob("*.png"):
        path.rename(flat / path.name)
    assert run("edit vary fashion flat --seed 3 --batch-size 2 -o a --sheet sheet.png").code == 0
    assert run("edit vary fashion flat --seed 3 --batch-size 64 -o b").code == 0
    names = sorted(os.listdir("a"))
    assert names == sorted(os.listdir("b")) == [f"{i:03d}.png" for i in range(5)]
    assert all(np.abs(pixels(f"a/{name}") - pixels(f"b/{name}")).max() <= 1 for name in names)
    assert pixels("sheet.png").shape[1] > 5 * 28
    assert read_file("sheet.png").generated
    # The third of them, by itself with its seed.
    assert run("edit vary fashion flat/002.png --seed 5 -o c.png").code == 0
    assert np.abs(pixels("c.png") - pixels("a/002.png")).max() <= 1


def test_several_results_of_one_input(run, place, picture):
    assert run("edit vary fashion in.png -n 3 --strength 0.5 -o out/").code == 0
    assert sorted(os.listdir("out")) == ["in-1.png", "in-2.png", "in-3.png"]
    assert (pixels("out/in-1.png") != pixels("out/in-2.png")).any()


def test_a_condition_goes_through(run, picture):
    assert run("edit sketch fashion in.png --label bag -o a.png").code == 0
    assert run("edit sketch fashion in.png --label 9 -o b.png").code == 0
    assert run("edit sketch fashion in.png -o c.png").code == 0
    assert (pixels("a.png") != pixels("b.png")).any()
    assert (pixels("a.png") != pixels("c.png")).any()


def test_degraded_inputs_are_measured(run, picture):
    outcome = run("edit upscale fashion in.png --degrade --factor 2 -o out.png --sheet sheet.png")
    assert outcome.code == 0
    assert "PSNR " in outcome.out
    outcome = run("edit denoise fashion in.png --degrade --sigma 0.2 -o out.png")
    assert "PSNR " in outcome.out


def test_interpolation_of_seeds_and_of_inputs_and_a_composition(run, place, picture):
    Image.open("in.png").rotate(90).save("other.png")
    assert run("edit interpolate fashion --seed 4 --to-seed 9 --count 5 --steps 1 -o walk.npz").code == 0
    assert run("sample fashion --seed 4 -n 1 -o first.npz").code == 0
    with np.load("walk.npz") as walk, np.load("first.npz") as first:
        assert walk["arr_0"].shape == (5, 28, 28, 1)
        assert first["arr_0"].shape == (1, 28, 28, 1)
    assert run("edit interpolate fashion in.png other.png --count 3 -o three/").code == 0
    assert sorted(os.listdir("three")) == ["in-1.png", "in-2.png", "in-3.png"]
    os.makedirs("pairs/a")
    os.makedirs("pairs/b")
    for name in ("one.png", "two.png"):
        Image.open("in.png").save(f"pairs/a/{name}")
        Image.open("other.png").save(f"pairs/b/{name}")
    assert run("edit interpolate fashion pairs/a pairs/b --count 2 -o steps/").code == 0
    assert sorted(os.listdir("steps")) == ["one-1.png", "one-2.png", "two-1.png", "two-2.png"]  # each pair's own
    assert [read_file(path).mark.source_type for path in ("walk.npz", "three/in-1.png")] == [TRAINED, COMPOSITE]
    assert run("edit compose fashion in.png other.png --mask left -o both.png").code == 0
    assert (pixels("both.png")[:, 14:] == pixels("in.png")[:, 14:]).all()


def test_a_teacher_edits_too(run, picture):
    outcome = run("edit inpaint fashion-teacher in.png --mask top --steps 3 --guidance 1.5 --label bag -o out.png")
    assert outcome.code == 0
    assert (pixels("out.png")[14:] == pixels("in.png")[14:]).all()


def test_colours_and_texts(run, zoo, place):
    save_writer(zoo / "writer")
    Image.new("L", (16, 16), 120).save("grey.png")
    outcome = run("edit colorize writer grey.png -o out.png")
    assert (outcome.code, outcome.err) == (0, "")
    assert "what is known is kept to" in outcome.out
    assert np.abs(pixels("out.png") - 120).max() <= 1  # Pillow's grey has the weights of the operator


@pytest.mark.parametrize(
    "words",
    [
        "inpaint --mask 0.05s:0.1s",
        "predict --known 0.1",
        "extend --cutoff 1500",
        "denoise",
        "denoise --sigma 0.05",
        "declip",
        "vary",
        "sketch --pitch C4",
    ],
)
def test_sounds(words: str, run, zoo, place):
    soundfile = pytest.importorskip("soundfile")
    save_instrument(zoo / "notes")
    wave = 0.89 * np.sin(2 * np.pi * 440 * np.arange(2_000) / 8_000)
    soundfile.write("in.wav", wave, 8_000)
    task, _, options = words.partition(" ")
    outcome = run(f"edit {task} notes in.wav {options} --steps 2 -o out.wav --sheet sheet.png")
    assert (outcome.code, outcome.err) == (0, "")
    after, rate = soundfile.read("out.wav")
    assert (after.shape, rate) == ((2_000,), 8_000)
    if task in ("inpaint", "predict"):
        assert np.abs(after - wave)[:300].max() < 3e-3  # a peak of 0.891 is what sounds are brought to
    if task == "extend":
        spectrum = np.abs(np.fft.rfft(after - wave))
        assert spectrum[:300].max() < 1e-3 * len(wave)  # up to 1200 Hz nothing changes


def test_no_result_takes_the_place_of_another(run, place, picture):
    """Inputs that differ in their endings alone, and results of one input in several batches."""
    Path("both").mkdir()
    with Image.open("in.png") as image:
        for name in ("a.png", "a.webp", "b.png"):
            image.save(f"both/{name}")
    assert run("edit vary fashion both -o out").code == 0
    assert sorted(os.listdir("out")) == ["a.png.png", "a.webp.png", "b.png"]
    assert run("edit vary fashion in.png -n 5 --batch-size 2 -o five").code == 0
    assert sorted(os.listdir("five")) == [f"in-{i}.png" for i in range(1, 6)]
    assert len({Path(f"five/in-{i}.png").read_bytes() for i in range(1, 6)}) == 5


MISTAKES = [
    ("edit", "TASK and MODEL is missing"),
    ("edit inpaint", "MODEL is missing"),
    ("edit inpiant fashion in.png", "there is no task 'inpiant'; did you mean 'inpaint'?"),
    ("edit inpaint fasion in.png", "there is no model 'fasion'; did you mean 'fashion'?"),
    ("edit inpaint fashion in.png", "inpaint needs mask"),
    ("edit inpaint fashion --mask left", "inpaint needs 1 input, got 0"),
    ("edit inpaint fashion in.png in.png --mask left", "inpaint needs 1 input, got 2"),
    ("edit compose fashion in.png --mask left", "compose needs 2 inputs, got 1"),
    ("edit inpaint fashion in.png --mask lefft", "unknown mask 'lefft'; give left, right, top, bottom, center"),
    ("edit inpaint fashion in.png --mask 0,0,99,9", "must lie within 28 x 28 pixels"),
    ("edit inpaint fashion in.png --mask 0,0,28,28", "the mask covers everything"),
    ("edit inpaint fashion in.png --mask a,b,c,d", "'a' in the mask 'a,b,c,d' is no number"),
    ("edit inpaint fashion in.png --mask random:inf", "'inf' in the mask 'random:inf' is no number"),
    ("edit inpaint world in.mp4 --mask inf:5", "unknown mask 'inf:5'; give"),
    ("edit inpaint world in.mp4 --mask 0s:infs", "unknown mask '0s:infs'; give"),
    ("edit vary fashion in.png -o in.png", "cannot write in.png: it is an input, which would be lost"),
    ("edit vary fashion in.png -o ./empty/../in.png", "it is an input, which would be lost"),
    ("edit vary fashion in.png -o -", "images go to a file or a folder, not to a pipe"),
    ("edit vary fashion in.png -o .", "it is an input, which would be lost; give another name"),
    ("edit vary fashion in.png -o out.png --sheet in.png", "cannot write in.png: it is an input"),
    ("edit inpaint fashion in.png --mask 0.1s:0.2s", "do not last in time, so that there is no '0.1s:0.2s'"),
    ("edit inpaint fashion in.png --mask no.png", "cannot read the image no.png"),
    ("edit inpaint fashion in.png --mask mask.png", "the mask mask.png has 30 x 30 pixels; it needs 28 x 28"),
    ("edit inpaint fashion in.png --mask left --factor 2", "inpaint takes no factor; it takes mask, sigma"),
    ("edit inpaint fashion in.png --mask left --sigma -1", "sigma must be a number from 0, got -1"),
    ("edit inpaint fashion in.png --mask left --solver ddrm", "--solver must be one of back-projection, replacement"),
    ("edit colorize fashion in.png", "there is no colorize of these images: they have 1 channel, not colours"),
    ("edit extend fashion in.png --cutoff 100", "there is no extend of images: they are no waveforms"),
    ("edit predict fashion in.png --known 1", "there is no predict of images: they do not last in time"),
    ("edit upscale fashion in.png --factor 1", "factor must be above 1 and at most 28, got 1"),
    ("edit outpaint fashion in.png --border 14", "border must leave a part of the 28 x 28 pixels"),
    ("edit outpaint fashion in.png --border wide", "border must be one width or LEFT,TOP,RIGHT,BOTTOM"),
    ("edit deblur fashion in.png --kernel blurry", "unknown kernel 'blurry'"),
    ("edit deblur fashion in.png --kernel nine.npy", "a kernel must sum to one, and this one sums to 9"),
    ("edit deblur fashion in.png --kernel box:40", "the kernel has 40 x 40 values, more than the 28 x 28 pixels"),
    ("edit denoise fashion in.png --sigma 0", "sigma must be above 0, got 0; leave it out to estimate it"),
    ("edit declip fashion in.png --level 2", "level must be above 0 and at most 1, got 2"),
    ("edit vary fashion in.png --strength 0", "strength must be above 0 and at most 1, got 0"),
    ("edit vary fashion in.png --degrade", "vary undoes nothing, so that there is nothing to degrade"),
    ("edit vary fashion in.png -n 0", "-n must be at least 1, got 0"),
    ("edit vary fashion in.png --steps 0", "steps must be at least 1, got 0"),
    ("edit vary fashion in.png --batch-size 0", "batch_size must be at least 1, got 0"),
    ("edit vary fashion in.png --guidance 2", "takes neither a solver nor guidance"),
    ("edit vary fashion in.png --label sneeker", "did you mean 'sneaker'"),
    ("edit vary fashion in.png --pitch C4", "the model fashion takes no --pitch; it takes --label"),
    ("edit vary fashion missing.png", "missing.png: no such file or folder"),
    ("edit vary fashion text.png", "cannot read the image text.png"),
    ("edit vary fashion empty", "empty has no image to edit"),
    ("edit vary fashion in.png -o out.pgn", "did you mean 'out.png'"),
    ("edit vary fashion in.png --sheet out.wav", "cannot write out.wav: its name must end with .png"),
    ("edit vary fashion in.png -o /proc/out/", "cannot write /proc/out"),
    ("edit interpolate fashion --count 1", "count must be at least 2, got 1"),
    ("edit interpolate fashion -n 3", "interpolate makes --count results; leave -n out"),
    ("edit restore fashion in.png", "restore needs operator"),
    ("edit interpolate world", "there is no interpolate of streams, and world generates streams"),
    ("edit vary sounds in.wav", "chunks of this model overlap, so that signals cannot be edited chunk by chunk"),
    ("edit vary world in.mp4", "cannot read the video in.mp4"),
    ("edit vary fashion in.png --frames 3", "--frames belongs to models that generate streams of frames"),
    ("edit vary world in.mp4 --frames 0", "--frames must be at least 1, got 0"),
]


@pytest.fixture(scope="module")
def world(zoo):
    save_stream(zoo / "sounds")
    return save_world(zoo / "world")


@pytest.mark.parametrize(("words", "part"), MISTAKES)
def test_a_mistake_is_one_line(words: str, part: str, run, place, picture, world):
    Image.new("L", (30, 30), 255).save("mask.png")
    np.save("nine.npy", np.ones((3, 3)))
    Path("text.png").write_text("no picture")
    Path("in.mp4").write_text("no video")
    Path("in.wav").write_text("no sound")
    Path("empty").mkdir()
    before = sorted(os.listdir(place))
    outcome = run(words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("unistep: error: ")
    assert outcome.err.count("\n") == 1
    assert part in outcome.err
    assert sorted(os.listdir(place)) == before


def test_an_unreadable_file_among_others_is_left_out_by_name(run, place):
    save_pictures(place / "mine", count=4)
    (place / "mine" / "left" / "zz.png").write_text("no picture")
    outcome = run("edit vary fashion mine/left -o out")
    assert outcome.code == 0
    assert "skipped: cannot read the image mine/left/zz.png" in outcome.out
    assert len(os.listdir("out")) == 2
    (place / "mine" / "left").joinpath("001.png").write_text("no")
    (place / "mine" / "left").joinpath("003.png").write_text("no")
    outcome = run("edit vary fashion mine/left -o none")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "none of the 3 files can be read" in outcome.err
    assert not Path("none").exists()


def test_a_full_disk_loses_nothing_that_was_written(run, place, monkeypatch):
    folder = save_pictures(place / "mine", count=6) / "left"
    whole, count = Path.replace, 0

    def full(path, target):
        nonlocal count
        count += 1
        if count > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(path, target)

    monkeypatch.setattr(Path, "replace", full)
    outcome = run(f"edit vary fashion {folder} -o out")
    assert outcome.code == 1
    assert outcome.err == "unistep: error: cannot write out/005.png: No space left on device\n"
    assert sorted(os.listdir("out")) == ["001.png", "003.png"]
    assert pixels("out/003.png").shape == (28, 28)


def test_parameters_are_tuned_kept_and_taken_later(run, place, picture, monkeypatch, tmp_path):
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("unistep.cli.edit_tuning.ITEMS", 4)
    monkeypatch.setattr("unistep.editing.search.COARSE", {"first": (1.0, 4.0), "last": (0.5,)})
    monkeypatch.setattr("unistep.editing.search.GRID", {"first": (2.0,), "estimated": (-0.9, 0.0)})
    save_pictures(place / "mine", count=6)
    words = "edit upscale fashion --factor 2 --steps 2"
    assert run(words, "in.png -o before.png").code == 0
    outcome = run(words, "--tune folder:mine")
    assert (outcome.code, outcome.err) == (0, "")
    assert "upscale in 2 steps on 4 items of folder:mine: PSNR " in outcome.out
    (kept,) = (tmp_path / "cache" / "editing").iterdir()
    found = json.loads(kept.read_text())
    assert list(found) == ["upscale/2"]
    found["upscale/2"]["first"] = 0.05
    kept.write_text(json.dumps(found))
    assert run(words, "in.png -o after.png").code == 0
    assert (pixels("before.png") != pixels("after.png")).any()
    kept.write_text("{")
    outcome = run(words, "in.png -o broken.png")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "delete it, or tune again" in outcome.err


def test_what_cannot_be_tuned_is_one_line(run, place):
    outcome = run("edit vary fashion --tune folder:mine")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "vary undoes nothing" in outcome.err
    outcome = run("edit upscale fashion --tune notes:excerpt")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "fashion makes images, notes:excerpt has sounds" in outcome.err


def test_files_say_that_a_model_changed_them(run, picture):
    assert run("edit vary fashion in.png --seed 7 --label bag -o out.png").code == 0
    said = run("verify out.png").out
    assert "fashion" in said
    assert "7" in said
    assert read_file("out.png").mark.source_type == COMPOSITE
    assert run("edit vary fashion in.png --unmarked -o plain.png").code == 0
    assert read_file("plain.png").mark is None


def test_a_mask_drawn_over_a_photo_that_lies_on_its_side(run, place):
    """A camera says in EXIF how to turn it; the mask was drawn on what a viewer shows. Its name may have a +."""
    upright = Image.fromarray(np.random.default_rng(2).integers(0, 256, (60, 40), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save("side.png", exif=exif)
    upright.save("upright.png")
    drawn = np.zeros((60, 40), np.uint8)
    drawn[:30] = 255
    Image.fromarray(drawn).save("a+b.png")
    for name in ("side", "upright"):
        assert run(f"edit inpaint fashion {name}.png --mask a+b.png --unmarked -o {name}-out.png").code == 0
    assert (pixels("side-out.png") == pixels("upright-out.png")).all()


def test_a_mask_that_is_drawn(run, place, picture):
    Image.open("in.png").resize((56, 56)).save("large.png")
    drawn = np.zeros((56, 56), np.uint8)
    drawn[:28] = 255
    Image.fromarray(drawn).save("drawn.png")
    assert run("edit inpaint fashion large.png --mask drawn.png -o a.png").code == 0
    assert run("edit inpaint fashion large.png --mask top -o b.png").code == 0
    assert (pixels("a.png") == pixels("b.png")).all()


def test_padding_is_not_taken_for_a_known_beginning(run, place):
    save_world(place / "world")
    clip = torch.rand(3, 2, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    VideoModality(size=16, channels=3, frames=2, fps=25).save(clip, place / "two.gif")
    outcome = run("edit predict world two.gif --known 3 -o out.gif")
    assert outcome.err.strip() == ("unistep: error: two.gif has 2 frames, fewer than are known: give --known 2 or less")
    assert outcome.code == 2
    assert not Path("out.gif").exists()
    assert run("edit predict world two.gif --known 2 -o out.gif").code == 0
    Image.new("RGB", (16, 16), "red").save("still.png")
    assert run("edit predict world still.png --known 3 -o out.gif").code == 0

    save_instrument(place / "instrument")
    soundfile.write("short.wav", np.sin(np.arange(800) / 5).astype(np.float32), 8000)  # of the model's 0.25 s
    outcome = run("edit predict instrument short.wav --known 0.2 --steps 1")
    assert "short.wav has 0.1 seconds of sound, fewer than are known: give --known 0.1 or less" in outcome.err
    assert run("edit predict instrument short.wav --known 0.1 --steps 1").code == 0
