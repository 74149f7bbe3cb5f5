from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unistep.modalities import ImageModality
from unistep.modalities import contact_sheet as sheet
from unistep.modalities import writing as output

GREY = ImageModality(size=28, channels=1)
COLOUR = ImageModality(size=(20, 30), channels=3)


def pictures(count: int, modality: ImageModality = GREY) -> torch.Tensor:
    return torch.randint(0, 256, (count, *modality.shape), dtype=torch.uint8)


def test_shapes():
    assert GREY.shape == (1, 28, 28)
    assert COLOUR.shape == (3, 20, 30)


@pytest.mark.parametrize(("size", "channels"), [(0, 1), ((4, 0), 3), (8, 2)])
def test_wrong_shapes_are_refused(size, channels):
    with pytest.raises(ValueError, match="must be"):
        ImageModality(size=size, channels=channels)


def test_every_pixel_value_survives_the_way_there_and_back():
    values = torch.arange(256, dtype=torch.uint8)
    x = GREY.to_signal(values)
    assert x.dtype == torch.float32
    assert (x[0], x[-1]) == (-1, 1)
    assert torch.equal(GREY.to_stored(x), values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_accepted(dtype):
    back = GREY.to_stored(GREY.to_signal(torch.arange(256, dtype=torch.uint8)).to(dtype)).int()
    assert (back - torch.arange(256)).abs().max() <= 1


@given(st.floats(-1e6, 1e6))
def test_pixels_are_rounded_and_clamped(value):
    expected = min(255, max(0, round((np.float32(value) + 1) * 127.5)))
    assert abs(GREY.to_stored(torch.tensor([value])).item() - expected) <= (0.5 < abs(value) < 1)


def test_values_that_are_not_numbers_are_an_error():
    with pytest.raises(ValueError, match="1 of 4"):
        GREY.to_stored(torch.tensor([0.0, float("nan"), float("inf"), 1.0]))


def test_a_saved_picture_is_loaded_again(tmp_path):
    x = pictures(1, COLOUR)
    COLOUR.save(COLOUR.to_signal(x), tmp_path / "a.png")
    assert torch.equal(COLOUR.to_stored(COLOUR.load(tmp_path / "a.png")), x[0])
    COLOUR.save(x[0], tmp_path / "b.webp")
    assert torch.equal(COLOUR.to_stored(COLOUR.load(tmp_path / "b.webp")), x[0])


def test_load_brings_any_picture_to_the_shape(tmp_path):
    Image.new("RGB", (300, 100), "white").save(tmp_path / "a.jpg")
    assert torch.equal(GREY.load(tmp_path / "a.jpg"), torch.ones(1, 28, 28))


@pytest.mark.parametrize("kind", ["missing", "text", "folder"])
def test_what_cannot_be_loaded_is_one_line(tmp_path, kind):
    (tmp_path / "text").write_text("no picture")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="cannot read the image") as caught:
        GREY.load(tmp_path / kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_several_pictures_make_a_grid(tmp_path, name):
    GREY.save(pictures(10), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        image.load()
        assert image.width >= 4 * 28 * 8  # tiny pictures are enlarged
        assert image.size == GREY.grid(pictures(10)).size
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~output._umask()


def test_a_grid_shows_every_picture_in_reading_order():
    x = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, *GREY.shape) * 40
    image = np.asarray(GREY.grid(x, columns=3))
    step = 28 * 8 + 8
    assert image.shape == (2 * step + 8, 3 * step + 8)
    found = [[int(image[8 + r * step, 8 + c * step]) for c in range(3)] for r in range(2)]
    assert found == [[0, 40, 80], [120, 160, 200]]
    assert image[0, 0] == 255  # the gap


def test_an_enlarged_grid_has_no_new_colours():
    x = torch.where(torch.rand(4, *GREY.shape) < 0.5, 10, 90).to(torch.uint8)
    assert set(np.unique(np.asarray(GREY.grid(x)))) == {10, 90, 255}


def test_many_pictures_are_not_enlarged():
    assert GREY.grid(pictures(900)).width == 30 * 30 + 2


def test_words_under_pictures_and_beside_rows():
    plain, labelled = GREY.grid(pictures(4)), GREY.grid(pictures(4), labels=["Trouser", "Bag", "a" * 90, "名"])
    assert labelled.height > plain.height
    assert labelled.width == plain.width
    rows = [("one step", pictures(5)), ("a title of so many words that it must be broken into lines", pictures(3))]
    drawn = GREY.contact_sheet([(title, GREY.to_signal(x)) for title, x in rows])
    left = np.asarray(drawn.convert("L"))[:, :60]
    half = drawn.height // 2
    assert left[:half].min() < 100
    assert left[half:].min() < 100
    assert drawn.width > GREY.contact_sheet([("", rows[0][1])]).width


def test_wrong_grids_are_refused():
    with pytest.raises(ValueError, match="3 labels cannot serve 4"):
        GREY.grid(pictures(4), labels=["a"] * 3)
    with pytest.raises(ValueError, match="at least one column"):
        GREY.grid(pictures(4), columns=0)
    with pytest.raises(ValueError, match="at least one row"):
        GREY.contact_sheet([])
    with pytest.raises(ValueError, match=r"\[n, c, h, w\]"):
        GREY.grid(torch.zeros(2, 2, 4, 4))
    with pytest.raises(ValueError, match=r"\[n, c, h, w\]"):
        GREY.grid(torch.zeros(0, 1, 4, 4))


def test_long_words_are_cut():
    font = sheet._FONT_SIZE
    assert font > 0
    from PIL import ImageFont

    shown = sheet._shorten("m" * 50, ImageFont.load_default(font), 60)
    assert shown.endswith("…")
    assert ImageFont.load_default(font).getlength(shown) <= 60


def test_npz_has_the_convention_of_reference_batches(tmp_path):
    x = pictures(3, COLOUR)
    COLOUR.save(COLOUR.to_signal(x), tmp_path / "a.npz", labels=[2, 0, 1])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert np.array_equal(found["arr_0"], x.permute(0, 2, 3, 1).numpy())
        assert found["arr_1"].tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="1 labels cannot serve 3"):
        COLOUR.save(x, tmp_path / "a.npz", labels=[1])


@pytest.mark.parametrize("name", ["new", "new.d/", "there"])
def test_a_folder_gets_numbered_files(tmp_path, name):
    (tmp_path / "there").mkdir()
    x = pictures(3)
    GREY.save(x, f"{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path / name)) == ["000000.png", "000001.png", "000002.png"]
    assert torch.equal(GREY.to_stored(GREY.load(tmp_path / name / "000002.png")), x[2])
    GREY.save(x[:2], f"{tmp_path}/{name}")  # fewer in the second call: nothing of the first is left among them
    assert sorted(os.listdir(tmp_path / name)) == ["000000.png", "000001.png"]


def wrong_path(tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    return {
        "suffix": tmp_path / "a.pgn",
        "unknown": tmp_path / "a.xyz",
        "no folder": tmp_path / "gone" / "a.png",
        "no folder above": f"{tmp_path}/gone/new/",
        "under a file": tmp_path / "file" / "a.png",
        "a file": tmp_path / "file",
        "other files": tmp_path / "full",
        "empty": "",
        "read only": "/proc/a.png",
        "read only folder": "/proc/new/",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("suffix", "did you mean 'a.png'"),
        ("unknown", "must end with .png"),
        ("no folder", "does not exist"),
        ("no folder above", "does not exist"),
        ("under a file", "does not exist"),
        ("a file", "it is a file"),
        ("other files", "mine.txt"),
        ("empty", "empty"),
        ("read only", "cannot write"),
        ("read only folder", "cannot write"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line_and_changes_nothing(tmp_path, kind, words):
    path = wrong_path(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    for attempt in (lambda: GREY.check_path(path), lambda: GREY.save(pictures(2), path)):
        with pytest.raises(ValueError, match=words) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.png", "a.npz", "new", "there"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, name):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_bytes(b"before")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "000000.png").write_bytes(b"before")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ValueError, match="No space left"):
        GREY.save(pictures(2), tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "there" / "000000.png").read_bytes() == b"before"


def test_what_is_no_tensor_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"images must be a torch tensor, got ndarray; torch\.from_numpy makes one"):
        GREY.save(pictures(2).numpy(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, -1, 8193, 10**9, (28, 10**9), (0, 28)])
def test_a_size_is_one_that_a_picture_has(size):
    with pytest.raises(ValueError, match="size must be from 1 to 8192 pixels, got"):
        ImageModality(size=size, channels=1)


def test_formats_have_their_limits(tmp_path):
    with pytest.raises(ValueError, match=r"too many for WEBP; use \.png"):
        output.write_picture(Image.new("L", (16_384, 2)), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []
