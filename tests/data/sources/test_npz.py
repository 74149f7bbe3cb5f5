from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unistep.data import data_config, prepare


def npz(path, **options):
    return prepare(data_config(f"npz:{path}", **options), progress=False)


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), np.uint8)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "NHW1"])
def test_layouts_and_labels(tmp_path, pixels, layout, compress):
    arrays = {
        "NHWC": pixels,
        "NCHW": pixels.transpose(0, 3, 1, 2).copy(),
        "NHW": pixels[..., 0].copy(),
        "NHW1": pixels[..., :1].copy(),
    }
    labels = np.array([3, 1, 0, 2, 1, 1, -1], np.int32)
    (np.savez_compressed if compress else np.savez)(tmp_path / "a.npz", arrays[layout], labels)
    dataset = npz(tmp_path / "a.npz")
    expected = pixels.transpose(0, 3, 1, 2) if layout in ("NHWC", "NCHW") else pixels[:, None, :, :, 0]
    assert np.array_equal(dataset.values, expected)
    assert dataset.labels.tolist() == labels.tolist()
    assert dataset.label_names == ("0", "1", "2", "3")


def test_names_size_channels_and_limit(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels)
    dataset = npz(tmp_path / "a.npz", size=8, channels=1, limit=3)
    assert dataset.values.shape == (3, 1, 8, 8)
    assert dataset.labels is None
    chosen = npz(tmp_path / "a.npz", limit=3)
    assert np.array_equal(chosen.values, pixels[[0, 2, 4]].transpose(0, 3, 1, 2))


def wrong(kind, pixels):
    return {
        "float": [pixels / 255.0],
        "rank": [pixels[0, 0]],
        "channels": [pixels.repeat(2, axis=3)],
        "none": [pixels[:0]],
        "pickle": [np.array([{"a": 1}], dtype=object)],
        "labels": [pixels, np.arange(3)],
        "label kind": [pixels, np.arange(7) / 2],
        "pickled labels": [pixels, np.array(["x"] * 7, dtype=object)],
        "order": [np.asfortranarray(pixels)],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("float", "uint8"),
        ("rank", r"\[n, h, w, c\]"),
        ("channels", r"\[n, h, w, c\]"),
        ("none", r"\[n, h, w, c\]"),
        ("pickle", "uint8"),
        ("labels", "7 whole numbers"),
        ("label kind", "7 whole numbers"),
        ("pickled labels", "allow_pickle"),
        ("order", "ascontiguousarray"),
    ],
)
def test_what_is_not_pictures_is_refused(tmp_path, pixels, kind, words):
    np.savez(tmp_path / "a.npz", *wrong(kind, pixels))
    with pytest.raises(ValueError, match=words) as caught:
        npz(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_names_are_listed(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", x=pixels, y=pixels)
    with pytest.raises(ValueError, match="it has x, y"):
        npz(tmp_path / "a.npz")


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "sample.npz").touch()
    with pytest.raises(ValueError, match=r"did you mean 'sample.npz'"):
        npz(tmp_path / "samples.npz")


def test_an_empty_file(tmp_path):
    (tmp_path / "a.npz").touch()
    with pytest.raises(ValueError, match="cannot be used"):
        npz(tmp_path / "a.npz")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_is_one_clear_error_or_the_same_pictures(tmp_path, pixels, data):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, pixels, np.arange(7))
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    file.write_bytes(content)
    said = ""
    try:
        dataset = npz(file)
    except ValueError as error:
        said = str(error)
    if said:
        assert "a.npz" in said
        assert "\n" not in said
    else:
        assert np.array_equal(dataset.values, pixels.transpose(0, 3, 1, 2))
