"""Every mistake in a command is one line that names what is wrong, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

MISTAKES = [
    ("smaple fashion", "there is no verb 'smaple', did you mean 'sample'?"),
    ("--hlep", "there is no option '--hlep'"),
    # sample
    ("sample", "MODEL is missing"),
    ("sample fasion", "there is no model 'fasion'; did you mean 'fashion'?"),
    ("sample no/where/at.all", "there is no model 'no/where/at.all'"),
    ("sample fashion --nmu 3", "unknown option '--nmu', did you mean '--num'?"),
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
    ("sample fashion --label sneeker", "nearest is 'sneaker'"),
    ("sample fashion --labels 3", "unknown option '--labels', did you mean '--label'?"),
    ("sample fashion --pitch C4", "unknown option '--pitch'"),
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
    ("sample fashion -o -", "pictures go to a file or a folder, not to a pipe; give a name such as out.png"),
    ("sample fashion -o out.pgn", "nearest is 'out.png'"),
    ("sample fashion -o missing/out.png", "missing does not exist"),
    ("sample fashion -o /proc/out.png", "cannot write /proc/out.png"),
    ("sample fashion --device tpu", "--device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    ("sample fashion --device cuda:77", "--device cuda:77 was asked for"),
    # train
    ("train", "the recipe comes first"),
    ("train --out x", "the recipe comes first"),
    ("train fashion-etc", "there is no recipe 'fashion-etc', did you mean 'fashion-ect'?"),
    ("train fashion-ect --lr 1", "unknown option '--lr', did you mean '--optimizer.lr'"),
    ("train fashion-ect --objective.curiculum.q 4", "did you mean '--objective.curriculum.q'?"),
    ("train fashion-ect --optimizer.lr fast", "--optimizer.lr must be a number, got 'fast'"),
    ("train fashion-ect --objective.target date", "must be one of", "did you mean 'data'?"),
    ("train fashion-ect --objective.curriculum.q 1", "q must be above 1"),
    ("train fashion-ect --batch-size 0", "batch_size must be at least 1, got 0"),
    ("train fashion-ect --max-steps -5", "max_steps must be at least 1, got -5"),
    ("train fashion-ect --budget 999999999999999h", "budget must be at most a century"),
    ("train fashion-ect --optimizer.lr nan", "lr must be above 0 and at most 1000, got nan"),
    ("train fashion-ect --optimizer.adam-lr -1", "adam_lr must be above 0 and at most 1000, got -1"),
    ("train fashion-ect --optimizer.momentum 5", "momentum must be from 0 to below 1, got 5"),
    ("train fashion-ect --optimizer.weight-decay nan", "weight_decay must be a finite number, 0 or more, got nan"),
    ("train fashion-ect --objective.curriculum.q nan", "q must be above 1"),
    ("train fashion-ect --budget soon", "budget must be a time", "got 'soon'"),
    ("train fashion-ect --budget -5m", "budget must be a time"),
    ("train fashion-ect --checkpoint-every never", "checkpoint_every must be a time"),
    ("train fashion-ect --seed -1", "seed must be from 0"),
    ("train fashion-ect --teacher fashion-teecher", "there is no model 'fashion-teecher'", "'fashion-teacher'"),
    ("train fashion-ect --recipe other", "cannot be changed"),
    ("train fashion-ect --objective.target data --objective.guidance-range 1 4", "target 'data' asks none"),
    ("train fashion-cd --objective.guidance-range 4 1", "the smaller one first, got 4 and 1"),
    ("train fashion-cd --objective.guidance-range 4", "--objective.guidance-range cannot be '4'"),
    ("train fashion-cd --objective.guidance-range 1 4 --objective.guidance 7", "guidance 7 must lie in guidance_range"),
    ("train fashion-ect --data foldr:x", "unknown data source 'foldr:x'", "'folder:x'"),
    ("train fashion-ect --data folder:nowhere", "nowhere does not exist"),
    ("train fashion-ect --data npz:nowhere.npz", "nowhere.npz does not exist"),
    ("train fashion-ect --data", "--data.source needs a value"),
    ("train fashion-ect --data.size 0", "size must be from 1 to 8192"),
    ("train fashion-ect --data.fit sqeeze", "--data.fit must be one of"),
    ("train fashion-ect --device tpu", "--device must be"),
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
    ("evaluate fashion --label sneeker", "nearest is 'sneaker'"),
    ("evaluate fashion --label 10", "label must be 0 to 9"),
    ("evaluate fashion --labels 3", "unknown option '--labels', did you mean '--label'?"),
    ("evaluate --steps 1 2", "there is no model '2'"),
    ("evaluate fashion --seed -1", "--seed must be from 0"),
    ("evaluate fashion --batch-size 0", "--batch-size must be at least 1, got 0"),
    ("evaluate fashion --data fashion-mist", "unknown data source 'fashion-mist'"),
    ("evaluate fashion --data fashion-mnist:tset", "'test'"),
    ("evaluate fashion --features fasion", "nearest is 'fashion'"),
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
    ],
)
def test_a_damaged_model_is_one_line(verb, what, part, run, zoo, place):
    check_line(run(verb, [damaged(zoo, place, what)]), part)
    assert [entry.name for entry in place.iterdir()] == ["damaged"]


def test_weights_of_another_network_are_one_line(run, zoo, place):
    check_line(run("sample", [damaged(zoo, place, "another network")]), "does not fit")
