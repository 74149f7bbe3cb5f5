"""Every mistake in a command is one line that names what is wrong, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from image_files import noisy
from unistep.cli import memory
from unistep.generation import memory as limits
from unistep.hub.save import WEIGHTS

MISTAKES = [
    ("smaple fashion", "there is no verb 'smaple'; did you mean 'sample'?"),
    ("--hlep", "there is no option '--hlep'"),
    # sample
    ("sample", "MODEL is missing"),
    ("sample fasion", "there is no model 'fasion'; did you mean 'fashion'?"),
    ("sample no/where/at.all", "there is no model 'no/where/at.all'"),
    ("sample fashion --nmu 3", "unknown option '--nmu'; did you mean '--num'?"),
    ("sample fashion extra", "unexpected 'extra'"),
    ("sample fashion -n", "-n/--num needs a value"),
    ("sample fashion -n many", "-n/--num must be a whole number, got 'many'"),
    ("sample fashion -n 1.5", "-n/--num must be a whole number, got '1.5'"),
    ("sample fashion -n 0", "num must be at least 1, got 0"),
    ("sample fashion -n -4", "num must be at least 1, got -4"),
    ("sample fashion --steps 0", "steps must be at least 1, got 0"),
    ("sample fashion --steps 100000", "steps must be at most 1000, got 100000"),
    ("sample fashion --seed -1", "seed must be from 0"),
    ("sample fashion --batch-size 0", "batch_size must be at least 1, got 0"),
    ("sample fashion --label 10", "label must be 0 to 9"),
    ("sample fashion --label -1", "label must be 0 to 9"),
    ("sample fashion --label sneeker", "did you mean 'sneaker'"),
    ("sample fashion --labels 3", "unknown option '--labels'; did you mean '--label'?"),
    ("sample fashion --pitch C4", "the model fashion takes no --pitch; it takes --label"),
    ("sample FASHION", "there is no model 'FASHION'; did you mean 'fashion'?"),
    ("sample fashion -n 100000000000", "GiB of memory at once", "in several runs, such as -n", "--seed 0, then --seed"),
    ("sample fashion --solver heun", "takes neither a solver nor guidance"),
    ("sample fashion-teacher --solver huen", "--solver must be one of", "did you mean 'heun'?"),
    ("sample fashion-teacher --guidance much", "--guidance must be a number, got 'much'"),
    ("sample fashion --guidance 2", "takes neither a solver nor guidance"),
    ("sample fashion --steps many", "--steps must be a whole number, got 'many'"),
    ("sample fashion-teacher --guidance nan", "guidance must be a finite number"),
    ("sample fashion --times 2.5 80", "times must decrease from step to step, got 2.5, 80"),
    ("sample fashion --times 800", "times must be from 0.002 to 80"),
    ("sample fashion --times 80 2.5 --steps 3", "there are 2 times for 3 steps"),
    ("sample fashion --times 80 soon", "--times cannot be '80' 'soon'"),
    ("sample fashion --times", "--times needs one or more numbers, such as 80 2.5"),
    ("sample --times 80 2.5", "there is no model '2.5'"),
    ("sample fashion -o -", "images go to a file or a folder, not to a pipe; give a name such as out.png"),
    ("sample fashion -o out.pgn", "did you mean 'out.png'"),
    ("sample fashion -o missing/out.png", "missing does not exist"),
    ("sample fashion -o /proc/out.png", "cannot write /proc/out.png"),
    ("sample fashion --device tpu", "--device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    ("sample fashion --device cuda:77", "--device cuda:77 was asked for"),
    # train
    ("train", "the recipe comes first"),
    ("train --out x", "the recipe comes first"),
    ("train fashion-etc", "there is no recipe 'fashion-etc'; did you mean 'fashion/ect'?"),
    ("train fashion/ect --lr 1", "unknown option '--lr': use --optimizer.lr"),
    (
        "train fashion/ect --epochs 3",
        "unknown option '--epochs': use --budget (30m of time, 500k images) or",
    ),
    ("train fashion-ect", "fashion-ect is now fashion/ect"),
    ("train fashion/ect --optimizer adam", "unknown optimizer 'adam'; did you mean 'adamw'?"),
    ("train fashion/ect --optimizer adamw --optimizer.adam-lr 1", "unknown option '--optimizer.adam-lr'"),
    ("train fashion/ect --model.network dti", "unknown network 'dti'; did you mean 'dit'?"),
    ("train fashion/ect --model.network dit --model.network.widths 8", "unknown option '--model.network.widths'"),
    ("train fashion/ect --data.seconds 2", "--data.seconds is an option of audio; images take size"),
    ("train ect --data notes --data.size 32", "--data.size is an option of image and video; sounds take sample_rate"),
    (
        "train ect --data my_pics",
        "unknown data source 'my_pics'; it must be one of fashion-mnist, moving-fashion, folder:PATH",
    ),
    ("train ect", "ect is a method and needs data, such as --data folder:my_pictures"),
    ("train ect --budget 1m", "ect is a method and needs data"),
    ("recipes fashion/etc", "there is no recipe 'fashion/etc'; did you mean 'fashion/ect'?"),
    ("train fashion/ect --objective.curiculum.q 4", "did you mean '--objective.curriculum.q'?"),
    ("train fashion/ect --optimizer.lr fast", "--optimizer.lr must be a number, got 'fast'"),
    ("train fashion/ect --objective.target date", "must be one of", "did you mean 'data'?"),
    ("train fashion/ect --objective.curriculum.q 1", "q must be above 1"),
    ("train fashion/ect --batch-size 0", "batch_size must be at least 1, got 0"),
    ("train fashion/ect --max-steps -5", "max_steps must be at least 1, got -5"),
    ("train fashion/ect --budget 999999999999999h", "budget must be at most a century"),
    ("train fashion/ect --optimizer.lr nan", "lr must be above 0 and at most 1000, got nan"),
    ("train fashion/ect --optimizer.adam-lr -1", "adam_lr must be above 0 and at most 1000, got -1"),
    ("train fashion/ect --optimizer.momentum 5", "momentum must be from 0 to below 1, got 5"),
    ("train fashion/ect --optimizer.weight-decay nan", "weight_decay must be a finite number, 0 or more, got nan"),
    ("train fashion/ect --objective.curriculum.q nan", "q must be above 1"),
    ("train fashion/ect --budget soon", "budget must be a time", "got 'soon'"),
    ("train fashion/ect --budget -5m", "budget must be a time"),
    ("train fashion/ect --checkpoint-every never", "checkpoint_every must be a time"),
    ("train fashion/ect --seed -1", "seed must be from 0"),
    ("train fashion/ect --teacher fashion-teecher", "there is no model 'fashion-teecher'", "'fashion-teacher'"),
    ("train fashion/ect --recipe other", "cannot be changed"),
    ("train fashion/ect --objective.target data --objective.guidance-range 1 4", "target 'data' asks none"),
    ("train fashion/cd --objective.guidance-range 4 1", "the smaller one first, got 4 and 1"),
    ("train fashion/cd --objective.guidance-range 4", "--objective.guidance-range cannot be '4'"),
    ("train fashion/cd --objective.guidance-range 1 4 --objective.guidance 7", "guidance 7 must lie in guidance_range"),
    ("train fashion/ect --data foldr:x", "unknown data source 'foldr:x'", "'folder:x'"),
    ("train fashion/ect --data folder:nowhere", "nowhere does not exist"),
    ("train fashion/ect --data npz:nowhere.npz", "nowhere.npz does not exist"),
    ("train fashion/ect --data", "--data.source needs a value"),
    ("train fashion/ect --data.size 0", "size must be from 1 to 8192"),
    ("train fashion/ect --data.fit sqeeze", "--data.fit must be one of"),
    ("train fashion/ect --device tpu", "--device must be"),
    # evaluate
    ("evaluate", "MODEL is missing"),
    ("evaluate fasion", "did you mean 'fashion'?"),
    ("evaluate fashion --teacher nope", "there is no model 'nope'"),
    ("evaluate fashion --num 1", "--num must be at least 10 samples, got 1"),
    ("evaluate fashion --steps 0", "--steps must be from 1 to 1000, got 0"),
    ("evaluate fashion --steps 1 two", "--steps cannot be '1' 'two'"),
    ("evaluate fashion --teacher-steps 5000", "--teacher-steps must be from 1 to 1000, got 5000"),
    ("evaluate fashion --solver", "--solver needs one or more"),
    ("evaluate fashion-teacher --guidance", "--guidance needs one or more numbers, such as 1 1.5"),
    ("evaluate fashion-teacher --guidance 1 much", "--guidance cannot be '1' 'much'"),
    ("evaluate fashion-teacher --guidance nan", "--guidance must be finite, got nan"),
    ("evaluate fashion --guidance 1.5", "and for those trained with guidance_range, not for fashion"),
    ("evaluate fashion --label sneeker", "did you mean 'sneaker'"),
    ("evaluate fashion --label 10", "label must be 0 to 9"),
    ("evaluate fashion --instrument=piano", "the model fashion takes no --instrument; it takes --label"),
    ("evaluate fashion --labels 3", "unknown option '--labels'; did you mean '--label'?"),
    ("evaluate --steps 1 2", "there is no model '2'"),
    ("evaluate fashion --seed -1", "--seed must be from 0"),
    ("evaluate fashion --batch-size 0", "--batch-size must be at least 1, got 0"),
    ("evaluate fashion --data fashion-mist", "unknown data source 'fashion-mist'"),
    ("evaluate fashion --data fashion-mnist:tset", "'test'"),
    ("evaluate fashion --features fasion", "did you mean 'fashion'"),
    ("evaluate fashion --json report.txt", "its name must end with .json"),
    ("evaluate fashion --json /proc/report.json", "cannot write /proc/report.json"),
    ("evaluate fashion --plot plot.pgn", "did you mean '.png'?"),
    # demo, models, recipes, info
    ("demo --seconds 0", "seconds must be from 1"),
    ("demo --seconds soon", "--seconds must be a number, got 'soon'"),
    ("demo --seed -1", "seed must be from 0"),
    ("demo --out /proc/demo", "cannot write /proc/demo"),
    ("demo --ouptut x", "unknown option '--ouptut'"),
    ("models all", "unexpected 'all'"),
    ("recipes --cite fashion-etc", "there is no recipe 'fashion-etc'; did you mean 'fashion/ect'?"),
    ("recipes --al", "unknown option '--al'"),
    ("info fasion", "did you mean 'fashion'?"),
    ("info fashion extra", "unexpected 'extra'"),
]


@pytest.mark.parametrize(("command", "parts"), [(m[0], m[1:]) for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line_with_exit_code_2_and_leaves_nothing(command, parts, run, place):
    outcome = run(command)
    check_line(outcome, *parts)
    assert list(place.iterdir()) == []


def check_line(outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("unistep: error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    for part in parts:
        assert part in outcome.err


def damaged(zoo: Path, place: Path, what: str) -> str:
    """A copy of the one-step stand-in with one thing wrong."""
    folder = place / "damaged"
    shutil.copytree(zoo / "fashion", folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    plain = json.loads(config.read_text())
    if what == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "pickled weights":
        weights.write_bytes(b"\x80\x04cos\nsystem\n(S'touch unpickled'\ntR.")
    elif what == "no weights":
        weights.unlink()
    elif what == "unknown key":
        config.write_text(json.dumps({**plain, "knid": "consistency"}))
    elif what == "no JSON":
        config.write_text("{")
    elif what == "huge pictures":
        plain["modality"]["size"] = 10**9
        config.write_text(json.dumps(plain))
    elif what == "another network":
        plain["network"]["widths"] = [8, 24]
        config.write_text(json.dumps(plain))
    return str(folder)


@pytest.mark.parametrize("verb", ["sample", "info", "evaluate"])
@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("cut weights", "not a readable safetensors file"),
        ("pickled weights", "not a readable safetensors file"),
        ("no weights", "is no model folder"),
        ("unknown key", "did you mean 'kind'?"),
        ("no JSON", "not readable as JSON"),
        ("huge pictures", "config.json: modality: size must be from 1 to 8192 pixels, got 1000000000"),
    ],
)
def test_a_damaged_model_is_one_line(verb, what, part, run, zoo, place):
    check_line(run(verb, [damaged(zoo, place, what)]), part)
    assert [entry.name for entry in place.iterdir()] == ["damaged"]


def test_weights_of_another_network_are_one_line(run, zoo, place):
    check_line(run("sample", [damaged(zoo, place, "another network")]), "does not fit")


def denied(monkeypatch, place: Path) -> None:
    """Let nobody open a file or list a folder, not even the superuser that tests may be."""
    opened, scan, stat = Path.open, os.scandir, Path.stat

    def refuse(call):
        def tried(path, *args, **options):
            if Path(path) == place or place in Path(path).parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *args, **options)

        return tried

    monkeypatch.setattr(Path, "open", refuse(opened))
    monkeypatch.setattr(os, "scandir", refuse(scan))
    if place.is_dir():
        monkeypatch.setattr(
            Path, "stat", lambda path, **options: stat(path, **options) if path == place else refuse(stat)(path)
        )


@pytest.mark.parametrize("verb", ["sample", "info"])
def test_weights_that_cannot_be_read_are_not_missing(verb, run, zoo, place, monkeypatch):
    folder = place / "model"
    shutil.copytree(zoo / "fashion", folder)
    denied(monkeypatch, folder / WEIGHTS)
    check_line(run(verb, [str(folder)]), f"{folder / WEIGHTS} cannot be read: Permission denied")


def test_a_model_folder_that_cannot_be_entered_is_named(run, zoo, place, monkeypatch):
    folder = place / "model"
    shutil.copytree(zoo / "fashion", folder)
    denied(monkeypatch, folder)
    check_line(run("sample", [str(folder)]), f"{folder} cannot be read: Permission denied")


def test_a_data_folder_that_cannot_be_read_is_named(run, place, monkeypatch):
    folder = place / "pictures"
    folder.mkdir()
    noisy(8, 8).save(folder / "a.png")
    denied(monkeypatch, folder)
    outcome = run("train fashion/ect --out run --data", [f"folder:{folder}"])
    check_line(outcome, f"the folder {folder} cannot be read: Permission denied")
    assert "metadata.jsonl" not in outcome.err
    assert os.listdir(place) == ["pictures"]


TAKING_NAMES = [
    ["sample", "fashion", "-o"],
    ["sample", "fashion", "--out"],
    ["sample"],
    ["info"],
    ["evaluate", "fashion", "--json"],
    ["evaluate", "fashion", "--plot"],
    ["evaluate", "fashion", "--data"],
    ["evaluate", "fashion", "--features"],
    ["train", "fashion/ect", "--out"],
    ["train", "fashion/ect", "--data"],
    ["train", "ect", "--data"],
    ["demo", "-o"],
    ["demo", "audio", "-o"],
    ["recipes"],
]


@pytest.mark.parametrize("before", TAKING_NAMES, ids=" ".join)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("n" * 300, "n" * 10),  # which is named, and too long or unknown
        (f"folder:{'n' * 300}/x.png", "n" * 10),
        ("a\0b", "has a NUL character"),
        ("", "is empty"),
        ("  ", "is empty"),
    ],
    ids=["long", "long folder", "NUL", "empty", "blank"],
)
def test_a_name_that_no_file_can_have_is_one_line(before, name, part, run, place):
    check_line(run(before, [name]), part)
    assert os.listdir(place) == []


@pytest.mark.parametrize("out", ["a.png", "pictures/"])
def test_a_full_disk_is_no_mistake_in_the_command(out, run, place, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    outcome = run("sample fashion -n 2 -o", [out])
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"unistep: error: cannot write {out.rstrip('/')}: No space left on device\n"
    assert list(place.iterdir()) == []


def test_options_of_another_signal_are_refused_before_a_folder_is_made(run, place):
    folder = place / "pictures"
    folder.mkdir()
    noisy(8, 8).save(folder / "a.png")
    outcome = run("train ect --out run --data", [f"folder:{folder}", "--data.seconds", "2"])
    check_line(outcome, "--data.seconds is an option of audio; images take size")
    assert os.listdir(place) == ["pictures"]


def test_an_error_has_no_empty_line_before_it(run, place):
    """The bar that shows how far the data is leaves none where there is no terminal."""
    folder = place / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    outcome = run("train fashion/ect --data", [f"folder:{folder}"])
    assert outcome.code == 2
    assert outcome.err.startswith("unistep: error: folder:")
    assert outcome.err.count("\n") == 1


def test_what_fits_into_memory_is_drawn(run, monkeypatch):
    monkeypatch.setattr(memory, "memory", lambda: 2 * 8 * 8 * memory.PER_VALUE * 10)
    memory.check_samples(20, 8 * 8, 5)
    with pytest.raises(ValueError, match=r"-n 21 needs .*, such as -n 10 --seed 5, then --seed 15, each with an -o"):
        memory.check_samples(21, 8 * 8, 5)
    monkeypatch.setattr(memory, "memory", lambda: None)
    memory.check_samples(10**12, 8 * 8, 5)


def test_memory_is_that_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    whole = limits.memory()
    assert whole is None or whole > 2**20
    (tmp_path / "max").write_text("1048576\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(limits, "_LIMITS", (str(tmp_path / "none"), str(tmp_path / "max"), str(tmp_path / "gone")))
    assert limits.memory() == 2**20


def test_a_few_samples_are_drawn_without_asking_for_the_memory(monkeypatch):
    """Asking reads files of the system, which takes as long as a tenth of a small network's call."""
    monkeypatch.setattr(limits, "memory", lambda: 0)
    limits.check_fits(64, limits.ALWAYS // 4 // 64)
    with pytest.raises(ValueError, match="draw them in several calls"):
        limits.check_fits(64, limits.ALWAYS // 4 // 64 + 1)
