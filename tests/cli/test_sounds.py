"""The verbs on models of sounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from cli.standins import TINY, save_instrument
from speech_standins import install_speech
from synth import install_synth
from unistep.cli.evaluation_data import data_for
from unistep.data.sources import notes
from unistep.generation.generator import Generator
from unistep.hub import load


@pytest.fixture(scope="session")
def instrument(tmp_path_factory) -> Path:
    return save_instrument(tmp_path_factory.mktemp("instrument") / "notes")


def test_a_note_is_played_by_name(run, instrument):
    outcome = run("sample --instrument piano --pitch C4 -n 4 -o notes.wav", [str(instrument)])
    assert outcome.code == 0, outcome
    assert "4 samples" in outcome.out
    assert "1 network call each" in outcome.out
    assert "written to notes.wav" in outcome.out
    info = soundfile.info("notes.wav")
    assert (info.samplerate, info.frames, info.channels) == (8_000, 4 * 2_000 + 3 * 2_000, 1)
    assert run("sample --instrument 0 --pitch 60 -n 4 -o same.flac", [str(instrument)]).code == 0
    assert np.array_equal(soundfile.read("notes.wav")[0], soundfile.read("same.flac")[0])


def test_without_a_path_samples_are_a_sound(run, instrument, place):
    assert run("sample -n 2", [str(instrument)]).code == 0
    assert [path.name for path in place.iterdir()] == ["samples.wav"]


def test_pictures_and_folders_of_sounds(run, instrument):
    assert run("sample -n 3 -o notes.png", [str(instrument)]).code == 0
    with Image.open("notes.png") as picture:
        assert picture.width > 500
    assert run("sample -n 3 -o notes/", [str(instrument)]).code == 0
    assert sorted(path.name for path in Path("notes").iterdir()) == ["000000.wav", "000001.wav", "000002.wav"]


def test_help_and_info_name_the_conditions(run, instrument):
    text = run("sample --help", [str(instrument)]).out
    for word in ("--instrument", "--pitch", "--velocity", "piano", "C3 to C6"):
        assert word in text
    text = run("info", [str(instrument)]).out
    for word in ("instrument", "pitch", "velocity", "MIT (nobody)"):
        assert word in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--pitch H4", "pitch must be 48 to 84, or C3 to C6, got 'H4'"),
        ("--pitch 20", "pitch must be 48 to 84, or C3 to C6, got 20"),
        ("--instrument pianno", "did you mean 'piano'"),
        ("--velocity 200", "velocity must be a number from 32 to 127, got '200'"),
        ("--label 3", "takes no --label; it takes --instrument, --pitch, --velocity"),
        ("-o a.waw", "did you mean 'a.wav'"),
        ("-o gone/a.wav", "does not exist"),
    ],
)
def test_a_mistake_is_one_line(run, instrument, place, options, words):
    outcome = run(["sample", str(instrument)], options)
    assert outcome.code == 2
    assert words in outcome.err
    assert outcome.err.startswith("unistep: error: ")
    assert outcome.err.count("\n") == 1
    assert list(place.iterdir()) == []


def test_a_missing_extra_is_named_before_the_work(run, instrument, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    outcome = run("sample -o a.wav", [str(instrument)])
    assert (outcome.code, outcome.out) == (2, "")
    assert "pip install 'unistep[audio]'" in outcome.err


def test_from_a_folder_of_sounds_with_a_broken_one_to_samples(run, place):
    """Without a teacher one is trained first."""
    for i in range(12):
        folder = place / "mine" / ("low" if i % 2 else "high")
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i}.wav", np.random.default_rng(i).normal(size=4_000) * 0.1, 16_000)
    (place / "mine" / "low" / "broken.wav").write_text("no sound")
    outcome = run("train notes/ect --data folder:mine --data.seconds 0.25 --max-steps 2 --batch-size 4 --out run", TINY)
    assert outcome.code == 0, outcome
    assert "low/broken.wav: not a sound" in outcome.out + outcome.err
    assert run("sample run --label low -n 2 -o low.wav").code == 0
    assert soundfile.info("low.wav").frames == 2 * 4_000 + 4_000


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train notes/ect --data folder:pictures", "folder:pictures has no usable sound: 0.png (not a sound)"),
        ("train notes/ect --data.seconds 0", "seconds must be from 0.01 to 600"),
        ("train notes/denoising --data notes:valid", "notes has train, test"),
        ("train fashion/ect --data folder:nowhere --data.modality song", "unknown modality 'song'"),
    ],
)
def test_a_mistake_in_training_is_one_line(run, place, command, words):
    (place / "pictures").mkdir()
    for i in range(4):
        Image.new("L", (28, 28), i).save(place / "pictures" / f"{i}.png")
    outcome = run(command)
    assert outcome.code == 2, outcome
    assert words in outcome.err
    assert outcome.err.strip().count("\n") == 0


def test_evaluate_an_instrument_on_held_out_notes(run, instrument, tmp_path, monkeypatch):
    """Against notes of a stand-in for FluidSynth: the conditions are those of the test notes."""
    install_synth(tmp_path, monkeypatch)
    monkeypatch.setattr(notes, "VELOCITIES", {"train": (96,), "test": (80,)})
    monkeypatch.setattr(notes, "HIGHEST", 54)
    monkeypatch.setenv("UNISTEP_CACHE", str(tmp_path / "cache"))
    outcome = run(
        ["evaluate", str(instrument), "--teacher", str(instrument)],
        "--steps 1 --num 20 --features spectrum --json r.json --batch-size 10",
    )
    assert outcome.code == 0, outcome
    report = json.loads(Path("r.json").read_text())
    assert [row["name"] for row in report["rows"][-2:]] == ["test split", "noise"]
    assert report["data"] == "notes:train"
    assert report["noun"] == "sounds"
    assert report["rows"][-2]["extra_metrics"]["tracker ↑"] == 1
    assert set(report["rows"][0]["extra_metrics"]) == {"tracker ↑", "LSD ↓"}
    assert "by YIN" in " ".join(outcome.out.split())
    told = run(["evaluate", str(instrument), "--pitch", "C4"], "--steps 1 --num 20 --features spectrum --json r.json")
    assert told.code == 0, told
    assert json.loads(Path("r.json").read_text())["rows"][0]["extra_metrics"] == {}


def test_evaluate_sounds_of_a_folder(run, instrument, place):
    for i in range(12):
        (place / "mine").mkdir(exist_ok=True)
        soundfile.write(place / "mine" / f"{i}.wav", np.random.default_rng(i).normal(size=4_000) * 0.1, 16_000)
    outcome = run(["evaluate", str(instrument)], "--data folder:mine --steps 1 --num 12 --json r.json")
    assert outcome.code == 0, outcome
    report = json.loads(Path("r.json").read_text())
    names = {network["label"]["name"] for network in report["networks"]}
    assert "spectrum" in names
    assert "notes" not in names  # as these are no notes of one second at 16 kHz
    assert report["reference_count"] == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--features notes", "take signals of shape 1x16000, got 1x2000"),
        ("--data folder:pictures", "folder:pictures has no usable sound"),
        ("--data fashion-mnist:test", "makes sounds, fashion-mnist:test has images; use matching data"),
        ("--features fasion", "did you mean 'fashion'"),
    ],
)
def test_a_mistake_in_judging_is_one_line(run, instrument, place, options, words, monkeypatch):
    (place / "pictures").mkdir()
    for i in range(4):
        Image.new("L", (28, 28), i).save(place / "pictures" / f"{i}.png")
        soundfile.write(place / f"{i}.wav", np.random.default_rng(i).normal(size=4_000) * 0.1, 16_000)
    data = "" if "--data" in options else f"--data folder:{place}"
    outcome = run(["evaluate", str(instrument)], f"--steps 1 --num 10 {data} {options}")
    assert outcome.code == 2, outcome
    assert words in outcome.err
    assert outcome.err.strip().count("\n") == 0


def test_evaluate_speech(run, instrument, place, monkeypatch):
    install_speech(monkeypatch)
    (place / "mine").mkdir()
    for i in range(12):
        soundfile.write(place / "mine" / f"{i}.wav", np.random.default_rng(i).normal(size=4_000) * 0.2, 16_000)
    outcome = run(["evaluate", str(instrument)], "--data folder:mine --speech --steps 1 --num 12 --json r.json")
    assert outcome.code == 0, outcome
    rows = json.loads(Path("r.json").read_text())["rows"]
    assert [row["name"] for row in rows[1:]] == ["reference", "noise"]
    assert all(set(row["extra_metrics"]) == {"speech ↑", "voice ↓", "MMD ↓"} for row in rows)
    assert rows[1]["extra_metrics"]["speech ↑"] == 1
    assert "MMD" in outcome.out


@pytest.mark.parametrize("missing", ["silero_vad", "resemblyzer"])
def test_what_judges_speech_is_named_where_it_is_missing(run, instrument, monkeypatch, missing):
    install_speech(monkeypatch)
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    outcome = run(["evaluate", str(instrument)], "--data folder:nowhere --speech")
    assert outcome.code == 2
    assert "pip install 'unistep[speech]', then pip install --no-deps resemblyzer" in outcome.err
    assert outcome.err.strip().count("\n") == 0


def test_speech_is_not_heard_in_pictures(run):
    outcome = run("evaluate fashion --speech")
    assert outcome.code == 2
    assert "error: --speech is not for fashion: speech metrics need sounds, and these are images" in outcome.err


def test_sounds_are_judged_against_what_their_model_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drums against drums, though notes have the same length."""
    g = load(save_instrument(tmp_path / "notes"))

    def judged(**changes: object) -> str:
        return data_for(Generator(g.map, replace(g.config, **changes)), None).source  # type: ignore[arg-type]

    assert judged(provenance={"data": "drums:permissive:tuned"}) == "drums:permissive:tuned"
    assert judged(provenance={"data": f"folder:{tmp_path}"}) == f"folder:{tmp_path}"
    monkeypatch.setenv("HOME", str(tmp_path))  # a shell leaves the ~ of folder:~/sounds as it is
    assert judged(provenance={"data": "folder:~/notes"}) == "folder:~/notes"
    for gone in ("folder:nowhere", "a file by hand"):
        with pytest.raises(ValueError, match=rf"trained on, {gone}, is not here; say with --data where it is now"):
            judged(provenance={"data": gone})
    with pytest.raises(ValueError, match=r"say with --data what the sounds of .* should be like"):
        judged(provenance={})
