"""Texts that a folder has for its files."""

import json

import pytest
from PIL import Image

from unistep.core.condition import TextField
from unistep.data import data_config, prepare

pytest.importorskip("tokenizers")


def pictures(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (20 * i, 90, 255 - 20 * i)).save(folder / name)


def test_a_text_file_beside_a_picture_is_its_caption(tmp_path):
    pictures(tmp_path / "p", ["a.png", "b.png", "c.png"])
    (tmp_path / "p/a.txt").write_text("\n a red square \nein rotes Quadrat\n", encoding="utf-8")
    (tmp_path / "p/b.txt").write_text("", encoding="utf-8")
    (tmp_path / "p/readme.txt").write_text("not a caption", encoding="utf-8")
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    field = data.fields["text"]
    assert isinstance(field, TextField)
    assert field.example == "a red square"
    assert len(data) == 3
    assert data.conditions([0, 1, 2])["text"].has_condition().tolist() == [True, False, False]
    assert int(data.conditions([0])["text"].mask.sum()) == 4
    without = prepare(
        data_config(f"folder:{tmp_path}/p", size=8, captions=False), cache_dir=tmp_path / "c", progress=False
    )
    assert dict(without.fields) == {}


def test_metadata_gives_one_text_or_several(tmp_path):
    pictures(tmp_path / "p", ["a.png", "b.png"])
    lines = [
        {"file_name": "a.png", "text": ["a square", "a small red square"], "label": "x"},
        {"file_name": "b.png", "text": "a blue square", "label": "y"},
    ]
    (tmp_path / "p/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    assert set(data.fields) == {"label", "text"}
    counts = {int(data.batch([0], [seed])[1]["text"].mask.sum()) for seed in range(20)}
    assert counts == {3, 5}
    lines[0]["text"] = "something else"
    (tmp_path / "p/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    changed = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    assert changed.fingerprint != data.fingerprint


def test_a_wrong_text_is_named(tmp_path):
    pictures(tmp_path / "p", ["a.png"])
    (tmp_path / "p/metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": 3}), encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: text must be a text"):
        prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)


def test_one_odd_text_spoils_no_folder(tmp_path, caplog):
    """Each is a remark on its file, and what an encoder can make nothing of is no text."""
    texts = {
        "a": b"a red square",
        "blank": b" \n\n",
        "latin": "ein gr\u00fcnes Quadrat".encode("latin-1"),
        "long": b"word " * 2_000,
        "unknown": "\U00013000\U00013001".encode(),
    }
    pictures(tmp_path / "p", [f"{name}.png" for name in texts])
    for name, text in texts.items():
        (tmp_path / f"p/{name}.txt").write_bytes(text)
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    printed = str(data.summary)
    for note in (
        "its text is empty: 1 (blank.png)",
        "its text is not UTF-8: 1 (latin.png)",
        "its text was cut to 1,000 characters: 1 (long.png)",
    ):
        assert note in printed
    assert data.summary.skipped == ()
    assert "1 of 4 values of text have no word that the encoder minilm knows, and count as none" in caplog.text
    has = data.conditions(range(5))["text"].has_condition().tolist()
    assert has == [True, False, True, True, False]


def test_a_long_text_of_the_metadata_is_cut(tmp_path):
    pictures(tmp_path / "p", ["a.png"])
    line = {"file_name": "a.png", "text": ["a square", "a " * 5_000]}
    (tmp_path / "p/metadata.jsonl").write_text(json.dumps(line), encoding="utf-8")
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    assert dict(data.summary.notes) == {"its text was cut to 1,000 characters": 1}
