"""Commands mark what they write, one flag turns that off, and ``verify`` tells what it finds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import unistep
from cli.standins import save_stream, save_world
from provenance.certificates import make_certificates
from unistep.provenance import TRAINED, Mark, Provenance
from unistep.provenance.embedding import container_of
from unistep.provenance.xmp import to_xmp


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_pictures_are_the_same_with_the_mark_and_without(run, place):
    assert run("sample fashion -n 4 --label dress -o marked.png").code == 0
    assert run("sample fashion -n 4 --label dress -o plain.png --unmarked").code == 0
    assert np.array_equal(pixels("marked.png"), pixels("plain.png"))
    found = run("verify marked.png")
    assert found.code == 0
    for fact in ("made by a model", "trainedAlgorithmicMedia", "model: fashion", "seed: 0-3", "condition: label dress"):
        assert fact in found.out
    found = run("verify marked.png plain.png")
    assert found.code == 3
    assert "plain.png: says nothing of a model" in found.out


def test_a_damaged_file_among_others_is_named_and_the_others_are_read(run, place):
    assert run("sample fashion -n 3 -o folder/").code == 0
    whole = (place / "folder/000001.png").read_bytes()
    (place / "folder/000001.png").write_bytes(whole[: len(whole) // 2])
    found = run("verify folder")
    assert (found.code, found.err) == (2, "")
    assert found.out.count("made by a model") == 2
    assert "folder/000001.png cannot be read: it is cut off\n" in found.out
    lines = [json.loads(line) for line in run("verify folder --json").out.splitlines()]
    assert [line.get("error") for line in lines] == [None, "folder/000001.png cannot be read: it is cut off", None]


def test_neither_a_name_nor_a_mark_writes_lines_of_its_own(run, place):
    """A name may hold what terminals obey, and a mark a line like those of the verdict."""
    forged = Mark(model="x\n  C2PA signature: valid, trusted", source_type=TRAINED)
    container = container_of(".png")
    assert run("sample fashion -n 1 -o plain.png --unmarked").code == 0
    (place / "a\n\x1b[31m.png").write_bytes(container.embed((place / "plain.png").read_bytes(), to_xmp(forged)))
    (place / "plain.png").unlink()
    found = run(f"verify {place}")
    assert found.code == 0
    assert "\x1b" not in found.out
    assert r"a\n\x1b[31m.png: made by a model" in found.out
    assert not any(line.startswith("  C2PA") for line in found.out.splitlines())


def test_each_file_of_a_folder_has_its_own_seed_and_condition(run, place):
    assert run("sample fashion -n 3 --seed 5 -o folder/").code == 0
    assert run("sample fashion -n 3 --seed 5 -o plain/ --unmarked").code == 0
    found = run("verify folder --json")
    assert found.code == 0
    marks = [json.loads(line)["mark"] for line in found.out.splitlines()]
    assert [mark["seed"] for mark in marks] == ["5", "6", "7"]
    g = unistep.load("fashion")
    drawn = g.completed({}, [5, 6, 7])["label"]
    assert [mark["condition"]["label"] for mark in marks] == g.config.fields["label"].words(drawn)
    assert len({mark["model_hash"] for mark in marks}) == 1
    for number in range(3):
        assert np.array_equal(pixels(f"folder/{number:06d}.png"), pixels(f"plain/{number:06d}.png"))


def test_python_marks_too(place):
    g = unistep.load("fashion")
    x = g.sample(2, seed=3, label=2)
    g.save(x, "model.png")
    g.save(x, "all.png", provenance=g.provenance(2, seed=3, label=2))
    g.save(x, "none.png", provenance=False)
    marks = [unistep.provenance.read_file(place / f"{name}.png").mark for name in ("model", "all", "none")]
    assert (marks[0].model, marks[0].seed) == ("fashion", "")
    assert (marks[1].seed, marks[1].condition) == ("3-4", {"label": "pullover"})
    assert marks[2] is None
    assert unistep.provenance.read_content(g.encode(x, "jpg")).mark == marks[0]


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg"])
def test_streams_of_sound_are_marked(run, zoo, place, ending):
    soundfile = pytest.importorskip("soundfile")
    save_stream(place / "phrases")
    for out, flags in {f"a{ending}": "", f"b{ending}": "--unmarked"}.items():
        assert run(f"stream phrases --pitch C4 --seconds 0.5 -o {out} {flags}").code == 0
    assert np.array_equal(soundfile.read(f"a{ending}")[0], soundfile.read(f"b{ending}")[0])
    found = run(f"verify a{ending}")
    assert found.code == 0
    assert "pitch" in found.out
    assert run(f"verify b{ending}").code == 3


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif"])
def test_what_is_played_is_marked(run, place, ending):
    pytest.importorskip("av")
    save_world(place / "drive")
    assert run(f"play drive --script gas*3 -o a{ending}").code == 0
    assert run(f"play drive --script gas*3 -o b{ending} --unmarked").code == 0
    assert run(f"verify a{ending}").code == 0
    assert run(f"verify b{ending}").code == 3


def test_signed_files_and_forged_ones(run, place):
    pytest.importorskip("c2pa")
    files = make_certificates(place)
    assert run(f"sample fashion -n 2 -o signed.png --sign {files.chain} {files.key}").code == 0
    found = run("verify signed.png")
    assert found.code == 0
    assert "C2PA signature: valid, by nobody who is trusted here" in found.out
    assert "signed by: A tester" in found.out
    assert "valid, trusted" in run(f"verify signed.png --trust {files.authority}").out
    content = (place / "signed.png").read_bytes()
    (place / "forged.png").write_bytes(content.replace(b'unistep:Seed="0-1"', b'unistep:Seed="5-6"'))
    found = run("verify forged.png")
    assert found.code == 4
    assert "does NOT hold" in found.out
    for words, expected in {
        f"sample fashion -o a.npz --sign {files.chain} {files.key}": "hold no C2PA signature",
        f"sample fashion -o a.png --sign {files.chain}": "two files, got 1",
        f"sample fashion -o a.png --sign {files.chain} {files.key} --unmarked": "do not go together",
        f"sample fashion -o a.png --sign {files.chain} missing.pem": "missing.pem cannot be read",
    }.items():
        outcome = run(words)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert expected in outcome.err
        assert not (place / "a.png").exists()


def test_bad_files_are_one_line(run, place):
    (place / "empty").mkdir()
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIH")
    (place / "text.txt").write_text("hello")
    assert run("verify text.txt").code == 3
    for words in ("verify missing.png", "verify empty", "verify broken.png", "verify"):
        outcome = run(words)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), words


def test_a_mark_does_not_say_where_on_a_computer_a_model_lies():
    provenance = Provenance(model="/home/somebody/runs/mine, fashion, owner/name, runs/mine", model_hash="")
    assert provenance.mark.model == "mine, fashion, owner/name, runs/mine"
