from __future__ import annotations

import io
import threading
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from image_files import huge_png, noisy
from unistep.modalities import image_reading as module
from unistep.modalities.image_reading import UnusablePictureError, decode, fit_picture, header_shape


def packed(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def halves(width: int, height: int) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (0, height // 2, width, height))
    return image


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_picture_of_the_right_size_is_left_as_it_is(kind):
    source = noisy(17, 13)
    picture = decode(packed(source, kind), size=(13, 17))
    assert np.array_equal(picture.pixels.transpose(1, 2, 0), np.asarray(source))
    assert picture.notes == ()


def test_crop_takes_the_middle_and_keeps_the_proportions():
    image = Image.new("RGB", (90, 30), "red")
    image.paste("lime", (30, 0, 60, 30))
    picture = decode(packed(image), size=(30, 30), fit="crop")
    assert (picture.pixels[1] == 255).all()
    assert (picture.pixels[0] == 0).all()


def test_pad_keeps_all_of_it_on_the_background():
    picture = decode(packed(Image.new("RGB", (90, 30), "red")), size=(30, 30), fit="pad", background="#0000ff")
    assert (picture.pixels[0, 10:20] == 255).all()
    assert (picture.pixels[2, 10:20] == 0).all()
    assert (picture.pixels[2, :10] == 255).all()
    assert (picture.pixels[2, 20:] == 255).all()


def test_stretch_uses_all_of_it():
    image = Image.new("RGB", (90, 30), "red")
    image.paste("lime", (45, 0, 90, 30))
    pixels = decode(packed(image), size=(30, 30), fit="stretch").pixels
    assert (pixels[0, :, :12] == 255).all()
    assert (pixels[1, :, 18:] == 255).all()


@example(width=25, height=3, size=(1, 11), fit="crop", mode="L")
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    mode=st.sampled_from(["L", "RGB"]),
)
@settings(max_examples=60)
def test_any_shape_fits_and_a_flat_picture_stays_flat(width, height, size, fit, mode):
    image = Image.new(mode, (width, height), "white")
    fitted = fit_picture(image, size, fit, "white")
    assert fitted.size == (size[1], size[0])
    assert fitted.mode == mode
    assert np.asarray(fitted).min() == 255


def test_transparency_shows_the_background_and_not_what_lies_under_it():
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture = decode(packed(image), size=(8, 8), background="lime")
    assert (picture.pixels.reshape(3, -1).T == [0, 255, 0]).all()
    assert picture.notes == ("transparent: laid on lime",)
    opaque = decode(packed(Image.new("RGBA", (8, 8), (255, 0, 0, 255))), size=(8, 8))
    assert opaque.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(orientation, kind):
    upright = halves(64, 64)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the inverse transpositions, by Pillow's numbers
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(packed(stored, kind, exif=exif), size=(64, 64)).pixels.astype(int)
    assert pixels[0, :24].min() > 200
    assert pixels[2, 40:].min() > 200
    assert pixels[2, :24].max() < 60


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_header_has_the_shape_of_the_picture_turned_upright(orientation, kind, tmp_path):
    stored = noisy(30, 20) if orientation <= 4 else noisy(20, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a", kind, exif=exif)
    assert header_shape(tmp_path / "a") == (3, 20, 30)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (65535, 255), (257 * 100, 100), (257 * 100 + 130, 101)])
def test_sixteen_bits_are_scaled_not_cut(value, expected):
    deep = Image.fromarray(np.full((4, 4), value, np.uint16))
    for kind in ("PNG", "TIFF"):
        assert (decode(packed(deep, kind), size=(4, 4), channels=1).pixels == expected).all()


@pytest.mark.parametrize(("most", "dark"), [(255, False), (4_095, True), (4_096, False)])
def test_twelve_bits_in_a_file_of_sixteen_are_named(most, dark):
    values = np.linspace(0, most, 16).astype(np.uint16).reshape(4, 4)
    notes = decode(packed(Image.fromarray(values)), size=(4, 4), channels=1).notes
    assert any(note.startswith("12 bits in a file of 16") for note in notes) == dark


def test_the_transparent_value_of_sixteen_bits_is_laid_on_the_background():
    values = np.full((4, 4), 30_000, np.uint16)
    values[:2] = 30_001  # in 8 bits the same, and not transparent
    content = packed(Image.fromarray(values), transparency=30_000)
    picture = decode(content, size=(4, 4), channels=1, background="white")
    assert (picture.pixels[0, :2] == round(30_001 / 257)).all()
    assert (picture.pixels[0, 2:] == 255).all()
    assert picture.notes == ("more than 8 bits: reduced", "transparent: laid on white")


@pytest.mark.parametrize(("value", "expected"), [(0.5, 128), (1.0, 255), (200.0, 200)])
def test_floating_point_has_two_ranges(value, expected):
    image = Image.fromarray(np.full((4, 4), value, np.float32))
    assert (decode(packed(image, "TIFF"), size=(4, 4), channels=1).pixels == expected).all()


@pytest.mark.parametrize("value", [1.02, 3.7, 300.0, -0.1])
def test_floating_point_of_neither_range_is_refused(value):
    """Pixels up to 1.02, after resizing, or those of a light probe would become black."""
    image = Image.fromarray(np.linspace(0, value, 16, dtype=np.float32).reshape(4, 4))
    with pytest.raises(UnusablePictureError, match="0 to 1 or 0 to 255"):
        decode(packed(image, "TIFF"), size=(4, 4))


@pytest.mark.parametrize("value", [-1, 70_000])
def test_integers_beyond_sixteen_bits_are_refused(value):
    image = Image.fromarray(np.full((4, 4), value, np.int32))
    with pytest.raises(UnusablePictureError, match="0 to 65535"):
        decode(packed(image, "TIFF"), size=(4, 4))


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = packed(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        picture = decode(content, size=(8, 8))
        assert (picture.pixels.reshape(3, -1).T == [255, 0, 0]).all(), kind
        assert picture.notes == ("animated: first frame used",), kind


def test_a_broken_later_frame_does_not_matter():
    content = packed(noisy(60, 60), "GIF", save_all=True, append_images=[noisy(60, 60, 1)])
    decode(content[: len(content) - 500], size=(8, 8))


def test_cmyk_and_grey():
    cmyk = decode(packed(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), size=(8, 8))
    assert cmyk.pixels[0].min() > 240
    assert cmyk.pixels[1:].max() < 15
    assert cmyk.notes == ("CMYK: converted",)
    assert (decode(packed(Image.new("RGB", (4, 4), "lime")), size=(4, 4), channels=1).pixels == 150).all()


def test_bombs_are_refused_and_the_guard_stays_on():
    guard = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(UnusablePictureError, match="more than 178,956,970 pixels"):
            decode(huge_png(40_000), size=(32, 32))
        with pytest.raises(UnusablePictureError, match="10000 x 10000"):
            decode(huge_png(10_000), size=(32, 32))
    assert Image.MAX_IMAGE_PIXELS == guard == module.MAX_PIXELS


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 100)
    inside, most, finish = [], [], module._finish

    def watched(*args):
        inside.append(1)
        most.append(len(inside))
        result = finish(*args)
        inside.pop()
        return result

    monkeypatch.setattr(module, "_finish", watched)
    content = packed(noisy(400, 400))
    threads = [threading.Thread(target=decode, args=(content,), kwargs={"size": (8, 8)}) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_large_jpegs_are_decoded_at_a_fraction(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 100_000)  # 800 x 800 is more; an eighth of each side is not
    picture = decode(packed(halves(800, 800), "JPEG"), size=(32, 32))
    assert picture.pixels[0, :12].min() > 240
    with pytest.raises(UnusablePictureError, match="800 x 800"):
        decode(packed(halves(800, 800)), size=(32, 32))


SAMPLES = {kind: packed(noisy(24, 24), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO")}


@settings(max_examples=120)
@given(kind=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_damage_anywhere_gives_a_picture_or_a_reason_on_one_line(kind, data):
    content = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, min(len(content), 300) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    reason, pixels = "", None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = decode(bytes(content), size=(9, 11)).pixels
        except UnusablePictureError as error:
            reason = str(error)
    if pixels is None:
        assert 0 < len(reason) < 200
        assert "\n" not in reason
    else:
        assert pixels.shape == (3, 9, 11)
        assert pixels.dtype == np.uint8


@given(st.binary(max_size=200))
def test_any_bytes_give_a_reason(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnusablePictureError):
            decode(content, size=(8, 8))
