"""Emoji and clip art."""

from collections import Counter

import pytest
import torch

from unistep.data import data_config, prepare
from unistep.data.sources import clipart, emoji

INSTALLED = emoji.FONT.is_file() and emoji.TABLE.is_file()
needs_emoji = pytest.mark.skipif(not INSTALLED, reason="Debian's fonts-noto-color-emoji and unicode-data are missing")


def test_the_excerpt_has_64_pictures_in_colour_with_texts(tmp_path):
    pytest.importorskip("tokenizers")
    data = prepare(data_config("emoji:excerpt"), cache_dir=tmp_path, progress=False)
    x, condition = data.batch(range(64))
    assert x.shape == (64, 3, 64, 64)
    assert condition["text"].has_condition().all()
    signal = data.modality.to_signal(x)
    assert (signal[:, 0] != signal[:, 2]).flatten(1).any(dim=1).float().mean() > 0.8  # colour
    assert len({picture.numpy().tobytes() for picture in x}) >= 63  # some flags are alike
    assert "Apache-2.0" in data.licence
    other = prepare(data_config("emoji:excerpt", background="black"), cache_dir=tmp_path, progress=False)
    assert other.batch([0])[0][0, :, 0, 0].tolist() == [0, 0, 0]
    assert x[0, :, 0, 0].tolist() == [255, 255, 255]


def test_phrasings_of_a_name():
    picture = emoji.Picture(text="?", name="woman cook: dark skin tone", group="People & Body", subgroup="person-role")
    assert picture.captions() == (
        "woman cook, dark skin tone",
        "an emoji of woman cook, dark skin tone",
        "woman cook, dark skin tone, person role",
    )
    assert not set(picture.captions()) & set(picture.captions(emoji.OTHER_PHRASINGS))


@needs_emoji
def test_held_out_combinations_have_parts_that_are_seen():
    every = emoji.pictures()
    assert len(every) > 3000
    names = frozenset(p.name for p in every)
    test = [p.name for p in every if emoji.is_held_out(p.name, names)]
    train = {p.name for p in every} - set(test)
    assert 0.03 < len(test) / len(every) < 0.1
    tones = Counter(name.partition(": ")[2] for name in test)
    assert set(tones) == set(emoji.TONES)
    for name in test:
        base, _, tone = name.partition(": ")
        assert base in train  # the same person and role without the tone
        assert any(f"{base}: {other}" in train for other in emoji.TONES)
        role = base.removeprefix("man ").removeprefix("woman ").removeprefix("person ")
        assert any(f"{person} {role}: {tone}" in train for person in ("man", "woman")) or f"{role}: {tone}" in train


@needs_emoji
def test_the_font_draws_what_the_excerpt_has():
    for picture in emoji.excerpt()[:3]:
        drawn = emoji.draw_emoji(picture.text)
        assert drawn.size == (136, 136)
        assert drawn.getbbox() is not None


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(emoji, "FONT", tmp_path / "none.ttf")
    monkeypatch.setattr(clipart, "FOLDER", tmp_path / "none")
    with pytest.raises(ValueError, match="fonts-noto-color-emoji"):
        prepare(data_config("emoji"), cache_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="openclipart-png"):
        prepare(data_config("clipart"), cache_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="train, test and excerpt"):
        prepare(data_config("emoji:tests"), cache_dir=tmp_path, progress=False)


def test_clipart_has_categories_and_no_links(monkeypatch, tmp_path):
    from PIL import Image

    for name in ("animals/cat.png", "animals/dog.png", "big_tools/saw.png"):
        path = tmp_path / "art" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (40, 20), (255, 0, len(name), 255)).save(path)
    (tmp_path / "art/animals/again.png").symlink_to(tmp_path / "art/animals/dog.png")
    monkeypatch.setattr(clipart, "FOLDER", tmp_path / "art")
    train = prepare(data_config("clipart"), cache_dir=tmp_path, progress=False)
    test = prepare(data_config("clipart:test"), cache_dir=tmp_path, progress=False)
    assert (len(train), len(test)) == (2, 1)
    assert train.label_names == ("animals", "big tools")
    x = train.batch([0])[0]
    assert x.shape == (1, 3, 64, 64)
    assert torch.equal(x[0, :, 0, 0], torch.tensor([255, 255, 255], dtype=torch.uint8))  # padded, not cut
