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


@pytest.mark.parametrize(("text", "message"), [(3, "line 1: text must be a text"), ("a" * 1001, "at most 1,000")])
def test_a_wrong_text_is_named(tmp_path, text, message):
    pictures(tmp_path / "p", ["a.png"])
    (tmp_path / "p/metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": text}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        prepare(data_config(f"folder:{tmp_path}/p", size=8), cache_dir=tmp_path / "c", progress=False)
