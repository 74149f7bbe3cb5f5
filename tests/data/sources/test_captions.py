"""Texts that a folder has for its files."""

import json

import pytest
from PIL import Image

from unistep.core.condition import TextField
from unistep.data import data_config, prepare
from unistep.data.sources.listing import list_folder, with_captions

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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_text_with_the_byte_order_mark_of_another_unicode_is_read(tmp_path, encoding):
    """As Windows' editor and PowerShell write them."""
    pictures(tmp_path / "p", ["a.png"])
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    (tmp_path / "p/a.txt").write_bytes(f"{mark}a r\u00f6d square\r\nsecond".encode(encoding))
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    assert data.fields["text"].example == "a r\u00f6d square"
    assert not any("its text" in note for note, _ in data.summary.notes)


def test_a_text_without_a_mark_that_has_nul_bytes_is_none(tmp_path):
    pictures(tmp_path / "p", ["a.png", "b.png"])
    (tmp_path / "p/a.txt").write_bytes("a red square".encode("utf-16-le"))
    (tmp_path / "p/b.txt").write_text("a blue square")
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    assert data.conditions([0, 1])["text"].has_condition().tolist() == [False, True]
    assert "its text is not UTF-8, and is not used: 1 (a.png)" in str(data.summary)


def test_the_ending_of_a_text_may_be_in_capitals(tmp_path):
    """As cameras and old systems write it; of two that differ in it the usual one counts."""
    pictures(tmp_path / "p", ["A.JPG", "b.png"])
    (tmp_path / "p/A.TXT").write_text("a red square")
    (tmp_path / "p/b.TXT").write_text("not this")
    (tmp_path / "p/b.txt").write_text("a blue square")
    found = with_captions(tmp_path / "p", list_folder(tmp_path / "p"), frozenset({".jpg", ".png"}))
    assert {entry.name: entry.texts for entry in found} == {
        "A.JPG": ("a red square",),
        "b.TXT": (),
        "b.png": ("a blue square",),
    }


def test_a_text_brings_no_control_characters_to_the_terminal(tmp_path):
    pictures(tmp_path / "p", ["a.png", "b.png", "c.png"])
    lines = [
        {"file_name": "a.png", "text": "\x1b[31ma red\x07\nsquare\x1b[0m"},
        {"file_name": "b.png", "text": "\x07"},
        {"file_name": "c.png", "text": ["\x1b", "a blue square"]},
    ]
    (tmp_path / "p/metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = list_folder(tmp_path / "p", frozenset({".png"}))
    assert [entry.texts for entry in found] == [("[31ma red  square [0m",), (), ("a blue square",)]


def test_a_long_text_of_the_metadata_is_cut(tmp_path):
    pictures(tmp_path / "p", ["a.png"])
    line = {"file_name": "a.png", "text": ["a square", "a " * 5_000]}
    (tmp_path / "p/metadata.jsonl").write_text(json.dumps(line), encoding="utf-8")
    data = prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
    assert dict(data.summary.notes) == {"its text was cut to 1,000 characters": 1}
