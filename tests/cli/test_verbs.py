"""Each verb does what it says, on stand-ins for the shipped models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.standins import TINY, save_pictures
from unistep.cli.extras import EXTRAS
from unistep.cli.info import print_card
from unistep.cli.main import VERBS
from unistep.recipes import read_docstring

OPTIONS = {
    "demo": ["--out", "--seconds", "--seed", "--open"],
    "sample": [
        "MODEL",
        "--num",
        "-n",
        "--steps",
        "--seed",
        "--solver",
        "--guidance",
        "--times",
        "--out",
        "-o",
        "--backend",
    ],
    "edit": ["TASK", "MODEL", "INPUT", "--mask", "--kernel", "--sigma", "--strength", "--sheet", "--steps", "-o"],
    "stream": ["MODEL", "--out", "-o", "--seconds", "--pace", "--seed", "--steps", "--precision", "--backend"],
    "play": ["MODEL", "--window", "--script", "--actions", "--out", "-o", "--beside", "--from", "--seed", "--hold"],
    "serve": [
        "MODEL",
        "--host",
        "--port",
        "--threads",
        "--queue",
        "--rate",
        "--allow-host",
        "--origins",
        "--unmarked",
        "--log",
        "--ray",
    ],
    "studio": ["MODEL", "--host", "--port", "--backend", "--no-browser"],
    "bench": ["live", "MODEL", "--seconds", "--fps", "--json"],
    "augment": ["MODEL", "--data", "--held-out", "--vary", "--measure", "--budget", "--real", "--shard-size", "-o"],
    "train": ["METHOD", "--data", "--budget", "--out", "--resume", "fashion/ect"],
    "evaluate": ["MODEL", "--teacher", "--data", "--features", "--steps", "--guidance", "--num", "--json", "--plot"],
    "verify": ["FILES", "--trust", "--json"],
    "export": ["MODEL", "--to", "--out", "-o", "--precision", "--num"],
    "convert": ["MODEL", "--out", "-o", "--lora", "--lora-scale", "--bits", "--half"],
    "models": [],
    "recipes": [],
    "info": ["MODEL"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", ["{} --help", "help {}"])
def test_help_of_each_verb(verb, form, run, place):
    outcome = run(form.format(verb))
    assert (outcome.code, outcome.err) == (0, "")
    for option in OPTIONS[verb]:
        assert option in outcome.out
    assert "``" not in outcome.out
    assert ":math:" not in outcome.out
    assert list(place.iterdir()) == []


def test_help_of_a_recipe_and_a_model_has_their_own_options(run):
    text = run("train fashion/ect --help").out
    for option in ("--objective.curriculum.q", "--optimizer.lr", "--batch-size", "--data.size", "--checkpoint-every"):
        assert option in text
    assert all(len({len(line) for line in box.splitlines()[1:-1]}) <= 1 for box in text.split("╭")[1:2])
    text = run("sample fashion --help").out
    assert "--label" in text
    assert "sneaker" in text
    text = run("evaluate --steps 1 2 --num=20 fashion --help").out
    assert "--label" in text
    assert "sneaker" in text


def npz(path: str) -> np.ndarray:
    with np.load(path) as file:
        return file["arr_0"]


def test_a_sample_belongs_to_its_seed_in_any_batch(run):
    for out, options in {
        "a.npz": "-n 7 --batch-size 7",
        "b.npz": "-n 7 --batch-size 3",
        "c.npz": "-n 2 --seed 5",
        "d.npz": "-n 7 --seed 1",
    }.items():
        assert run(f"sample fashion --steps 2 --seed 0 {options} -o {out}").code == 0
    a, b, c, d = (npz(f"{name}.npz").astype(int) for name in "abcd")
    assert a.shape == (7, 28, 28, 1)
    assert np.abs(a - b).max() <= 1  # a rounding of the last bit may differ between batch sizes
    assert np.abs(a[5:] - c).max() <= 1
    assert np.abs(a[1:] - d[:-1]).max() <= 1
    assert np.abs(a[0] - a[1]).max() > 10


def test_a_label_by_number_is_the_label_by_name(run):
    for out, options in {"number.npz": "--label 7", "name.npz": "--label Sneaker", "other.npz": "--label 2"}.items():
        assert run(f"sample fashion -n 3 {options} -o {out}").code == 0
    assert (npz("number.npz") == npz("name.npz")).all()
    assert (npz("number.npz") != npz("other.npz")).any()


def test_sample_says_what_it_took_and_where_it_is(run):
    outcome = run("sample --num=4 fashion-teacher --steps 3 --solver heun --guidance 1.5")
    assert (outcome.code, outcome.err) == (0, "")
    assert "4 samples of fashion-teacher in " in outcome.out
    assert "10 network calls each, fp32 on cpu" in outcome.out  # guidance asks twice
    assert "written to samples.png" in outcome.out
    with Image.open("samples.png") as picture:
        assert picture.width > 2 * 28


def test_sampling_at_times_of_ones_own(run):
    assert run("sample --times 80 2.5 --seed 3 -n 2 fashion -o ours.npz").code == 0
    assert run("sample -o last.npz --seed 3 -n 2 --times 80 2.5 fashion").code == 0
    assert (npz("ours.npz") == npz("last.npz")).all()
    assert run("sample fashion -n 2 --seed 3 --steps 2 -o grid.npz").code == 0
    assert (npz("ours.npz") != npz("grid.npz")).any()
    outcome = run("sample fashion-teacher -n 1 --times 80 9 1 0.1 --solver euler -o slow.npz")
    assert outcome.code == 0
    assert "4 network calls each" in outcome.out


def test_models_are_listed_with_what_they_are(run):
    outcome = run("models")
    assert outcome.code == 0
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if line.strip()}
    student, teacher = rows["fashion"], rows["fashion-teacher"]
    assert "one-step" in student
    assert "28 x 28 pixels" in student
    assert "label (10)" in student
    assert "18 heun" in teacher


def test_recipes_are_a_table_and_one_is_shown_in_detail(run):
    outcome = run("recipes")
    assert outcome.code == 0
    assert "\nect " in outcome.out
    assert "expected" not in outcome.out
    for name in ("ect", "fashion/ect"):
        details = run("recipes", [name])
        assert details.code == 0
        assert all(fact in details.out for fact in ("needs a teacher", "paper", "objective", "optimizer", "budget"))
        assert f"unistep train {name}" in details.out
        assert "`" not in details.out
    assert "Fréchet distance 0.59" in details.out
    assert "fashion/ect" in run("recipes fashion-ect").err


def test_a_docstring_is_read_as_facts():
    what, facts = read_docstring("Does\nthis.\n\nData: a ``b``,\n    and c.\nExpected: 3.0.\n\nNothing: to see\n")
    assert what == "Does this."
    assert facts == {"Data": "a b, and c.", "Expected": "3.0.", "Nothing": "to see"}


def test_info_tells_of_the_installation(run, shared_cache):
    outcome = run("info")
    assert (outcome.code, outcome.err) == (0, "")
    text = " ".join(outcome.out.split())
    parts = ["version 0.1.0", "torch", "threads", "bf16", "fashion, fashion-teacher"]
    for part in [*parts, *(f"extra {extra}" for extra in EXTRAS)]:
        assert part in text


def test_info_tells_of_a_model(run):
    outcome = run("info fashion")
    assert outcome.code == 0
    shape = "28 x 28 pixels, grey"
    for part in (shape, "U-Net, widths 8 16", "7 sneaker", "none: random weights", "A card of a stand-in."):
        assert part in outcome.out
    assert "license: x" not in outcome.out


def test_train_from_pictures_to_samples(run, place):
    pictures = save_pictures(place / "pictures", side=16)
    command = ["train", "fashion/ect", "--data", f"folder:{pictures}", "--data.size", "16", "--out", "mine", *TINY]
    command += ["--batch-size", "4", "--max-steps", "3", "--objective.curriculum.q", "3", "--optimizer.lr", "2e-3"]
    outcome = run(command)
    assert (outcome.code, outcome.err.strip()) == (0, ""), outcome
    config = json.loads(Path("mine/config.json").read_text())
    assert config["objective"]["curriculum"]["q"] == 3
    assert config["optimizer"]["lr"] == 2e-3
    assert config["data"]["options"]["size"] == 16
    # The shipped teacher knows nothing of these pictures: one of their own is trained first.
    assert config["teacher"] == "run:teacher/model"
    assert run("sample mine -n 2 --label left -o two.png").code == 0
    again = run(command)
    assert again.code == 2
    assert "add --resume to go on" in again.err
    assert again.err.count("\n") == 1
    other = run("train fashion/ct --out mine --resume", ["--data", f"folder:{pictures}", "--data.size", "16"])
    assert other.code == 2
    assert "holds another run" in other.err
    assert run([*command, "--resume"]).code == 0
    Path("mine").rename("ours")
    pictures.rename("album")
    there = [{"mine": "ours", f"folder:{pictures}": "folder:album"}.get(word, word) for word in command]
    assert run([*there, "--resume", "--max-steps", "4"]).code == 0
    save_pictures(place / "others", count=20, side=16)
    others = ["folder:others" if word == "folder:album" else word for word in there]
    refused = run([*others, "--resume"])
    assert refused.code == 2
    assert "folder:others is other data" in refused.err


def test_another_kind_of_network_is_trained_by_its_name(run, place):
    pictures = save_pictures(place / "pictures", side=16)
    command = ["train", "denoising", "--data", f"folder:{pictures}", "--data.size", "16", "--out", "mine"]
    command += ["--model.network", "dit", "--model.network.width", "16", "--model.network.head-dim", "8"]
    outcome = run([*command, "--model.network.depth=1", "--batch-size", "4", "--max-steps", "1"])
    assert (outcome.code, outcome.err.strip()) == (0, ""), outcome
    network = json.loads(Path("mine/config.json").read_text())["model"]["network"]
    assert (network["type"], network["width"], network["depth"], network["channels"]) == ("dit", 16, 1, 1)
    assert run("sample mine -n 1 --steps 1 -o one.png").code == 0
    assert run([*command, "--resume", "--max-steps", "1"]).code == 0
    shown = run("train fashion/ect --model.network dit --help")
    assert "--model.network.mlp-ratio" in shown.out
    assert "--model.network.widths" not in shown.out


def test_an_optimizer_is_chosen_by_its_name(run, place, monkeypatch):
    from unistep.optimizers import AdamConfig, MuonConfig

    seen = []
    monkeypatch.setattr("unistep.training.run.train", lambda *a, **k: seen.append(a[0]) or True)
    pictures = save_pictures(place / "pictures", side=16)
    for words in ("", "--optimizer muon", "--optimizer=adamw --optimizer.lr 3e-4", "--optimizer.lr 1e-3"):
        assert run(f"train ect --data folder:{pictures} {words}").code == 0
    left_open, muon, adam, rate = seen
    assert [("optimizer" in config.auto) for config in seen] == [True, False, False, False]
    assert left_open.optimizer == muon.optimizer == MuonConfig(lr=5e-4, adam_lr=2e-4)
    assert adam.optimizer == AdamConfig(lr=3e-4, betas=(0.9, 0.99))
    assert rate.optimizer == MuonConfig(lr=1e-3, adam_lr=2e-4)


def test_an_interrupted_training_has_its_own_exit_code(run, place, monkeypatch):
    monkeypatch.setattr("unistep.training.run.train", lambda *a, **k: False)
    assert run("train fashion/denoising").code == 130


def test_a_training_that_diverges_is_one_line(run, monkeypatch):
    from unistep.training.health import TrainingStoppedError

    def diverge(*a, **k):
        raise TrainingStoppedError("20 steps in a row")

    monkeypatch.setattr("unistep.training.run.train", diverge)
    outcome = run("train fashion/denoising")
    assert (outcome.code, outcome.err) == (1, "unistep: error: 20 steps in a row\n")


@pytest.mark.parametrize(
    ("options", "teacher", "max_steps"),
    [
        ("", "fashion-teacher", None),
        ("--data fashion-mnist:test", "fashion-teacher", None),
        ("--data.size 32", None, None),
        ("--model.network.widths 8 16", None, None),
        ("--model.network dit", None, None),
        ("--model.network=unet", "fashion-teacher", None),
        ("--teacher fashion-teacher --data.size 32", "fashion-teacher", None),
        ("--max-steps 7", "fashion-teacher", 7),
        ("--max-steps 7 --budget 3m", "fashion-teacher", 7),
    ],
)
def test_what_the_options_of_train_mean(options, teacher, max_steps, run, monkeypatch):
    seen = []
    monkeypatch.setattr("unistep.training.run.train", lambda *a, **k: seen.append(a) or True)
    assert run(f"train fashion/ect {options}").code == 0
    config, out = seen[0]
    assert (config.teacher, config.max_steps) == (teacher, max_steps)
    assert out == Path("runs/fashion-ect")


def test_evaluate_a_model_beside_its_teacher(run, place):
    pictures = save_pictures(place / "pictures")
    outcome = run(
        "evaluate fashion --teacher fashion-teacher --features pixels --num 20 --steps 1 2 --teacher-steps 2",
        ["--data", f"folder:{pictures}", "--json", "new/report.json", "--plot", "plot.png"],
    )
    assert outcome.code == 0, outcome
    report = json.loads(Path("new/report.json").read_text())
    rows = [(row["name"], row["solver"], row["steps"]) for row in report["rows"] if row["steps"]]
    assert rows == [
        ("fashion", None, 1),
        ("fashion", None, 2),
        ("fashion-teacher", "heun", 2),
        ("fashion-teacher", "dpmpp2m", 2),
    ]
    assert "pixels v1" in outcome.out
    assert "written to plot.png" in outcome.out
    with Image.open("plot.png") as picture:
        assert picture.format == "PNG"


def test_evaluate_with_a_label_and_guidance(run, place):
    pictures = save_pictures(place / "pictures")
    outcome = run(
        "evaluate --steps 1 --teacher-steps 2 --solver heun --guidance 1 1.5 --num 20 fashion --label sneaker",
        ["--teacher", "fashion-teacher", "--features", "pixels", "--data", f"folder:{pictures}", "--json", "r.json"],
    )
    assert outcome.code == 0, outcome
    report = json.loads(Path("r.json").read_text())
    rows = [(row["name"], row["guidance"], row["calls"]) for row in report["rows"] if row["steps"]]
    assert rows == [("fashion", None, 1), ("fashion-teacher", 1.0, 3), ("fashion-teacher", 1.5, 6)]
    assert report["condition"] == {"label": "sneaker"}
    assert "guidance=1.5" in outcome.out
    free = run(
        "evaluate fashion --steps 1 --num 20 --features pixels", ["--data", f"folder:{pictures}"], "--json f.json"
    )
    assert free.code == 0
    other = json.loads(Path("f.json").read_text())
    assert other["rows"][0]["figures"][0]["frechet"] != report["rows"][0]["figures"][0]["frechet"]


def test_a_missing_extra_is_named_before_the_work(run, monkeypatch):
    monkeypatch.setattr("unistep.cli.extras.find_spec", lambda name: None if name == "torchmetrics" else object())
    outcome = run("evaluate fashion --num 10")
    assert outcome.code == 2
    assert outcome.err == "unistep: error: unistep evaluate needs torchmetrics: pip install 'unistep[eval]'\n"


def test_demo_passes_its_options_on(run, monkeypatch):
    seen = []
    monkeypatch.setattr("unistep.demo.show.run_demo", lambda config, console: seen.append(config) or Path("page.html"))
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run("demo --out here --seconds 5 --seed 3 --no-open").code == 0
    assert (seen[0].out, seen[0].seconds, seen[0].seed) == (Path("here"), 5, 3)
    assert opened == []
    assert run("demo --open").code == 0
    assert opened == [Path("page.html").absolute().as_uri()]


def test_an_interrupted_demo_has_its_own_exit_code(run, monkeypatch):
    monkeypatch.setattr("unistep.demo.show.run_demo", lambda config, console: None)
    assert run("demo").code == 130


def test_a_wide_table_of_a_card_is_printed_whole(capsys):
    text = "# A card\n\n| name | figure |\n|---|---:|\n| " + "long " * 30 + "| 0.6789 |\n\nThe end.\n"
    print_card(text)
    out = capsys.readouterr().out
    assert "long " * 30 + "| 0.6789 |" in out
    assert "A card" in out
    assert "The end." in out
