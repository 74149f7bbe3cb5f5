from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unistep.data import DataConfig, data_config, options
from unistep.modalities.audio_options import AudioOptions
from unistep.modalities.image_options import ImageOptions
from unistep.serialization import from_plain, to_plain


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_bad", 1.5, "from 0 to 1"),
        ("limit", 0, "at least 1"),
        ("limit", "5", "limit must be a whole number, got '5'"),
        ("max_bad", None, "max_bad must be a number, got None"),
        ("source", Path("x"), "source must be a text such as folder:PATH, got PosixPath('x')"),
        ("modality", "imge", "did you mean 'image'"),
        ("augment", "flip", "a tuple of names such as ('flip',)"),
        ("options", {"size": 8}, "options must be such as ImageOptions(size=64)"),
    ],
)
def test_wrong_fields_name_the_value_and_the_fix(field, value, words):
    with pytest.raises(ValueError, match=field.split("_")[0]) as caught:
        DataConfig(**{field: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        (ImageOptions, "size", 0, "1 to 8192"),
        (ImageOptions, "size", -3, "-3"),
        (ImageOptions, "channels", 2, "1 (grey) or 3 (RGB)"),
        (ImageOptions, "fit", "corp", "did you mean 'crop'"),
        (ImageOptions, "background", "wite", "did you mean 'white'"),
        (ImageOptions, "size", 8.5, "size must be a whole number, got 8.5"),
        (ImageOptions, "size", True, "size must be a whole number, got True"),
        (ImageOptions, "fit", None, "fit must be a text such as crop, got None"),
        (AudioOptions, "channels", 3, "1 (mono) or 2 (stereo)"),
        (AudioOptions, "sample_rate", 16e3, "sample_rate must be a whole number, got 16000.0"),
        (AudioOptions, "seconds", "1", "seconds must be a number, got '1'"),
        (AudioOptions, "cut", "window", "did you mean 'windows'"),
    ],
)
def test_wrong_options_name_the_value_and_the_fix(kind, field, value, words):
    with pytest.raises(ValueError, match=field.split("_")[0]) as caught:
        kind(**{field: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_go_to_the_modality_that_has_them():
    assert data_config("folder:x", size=8).options == ImageOptions(size=8)
    assert data_config("folder:x", seconds=2.0).options == AudioOptions(seconds=2.0)
    assert data_config("notes", channels=2).options == AudioOptions(channels=2)
    assert data_config("folder:x", channels=2).options == AudioOptions(channels=2)
    assert data_config("folder:x").options is None
    # What both have is taken as the files turn out to be.
    assert data_config("folder:x", channels=1).options_for("audio") == AudioOptions(channels=1)
    assert data_config("folder:x", channels=1).options_for("image") == ImageOptions(channels=1)


@pytest.mark.parametrize(
    ("source", "given", "words"),
    [
        ("fashion-mnist", {"seconds": 2.0}, "--data.seconds is an option of audio; images take size, channels, fit, b"),
        ("notes", {"size": 8}, "--data.size is an option of image and video; sounds take sample_rate, seconds"),
        ("folder:x", {"size": 8, "seconds": 1.0}, "of audio and --data.size of image or video; give those of one"),
        ("folder:x", {"sise": 8}, "did you mean 'size'"),
    ],
)
def test_options_of_another_modality_are_refused(source, given, words):
    with pytest.raises(ValueError, match="--data") as caught:
        data_config(source, **given)
    assert words in str(caught.value)
    with pytest.raises(ValueError, match="seconds is an option of audio"):
        data_config("folder:x", seconds=2.0).options_for("image")


def test_a_configuration_goes_through_json_and_an_older_one_is_read():
    config = data_config("folder:x", modality="audio", seconds=2.0, augment=("gain",))
    plain = to_plain(config)
    assert plain["options"]["type"] == "audio"
    assert from_plain(DataConfig, plain) == config
    older = {
        **{"source": "folder:x", "kind": "sound", "split": "train", "size": None, "channels": 2, "fit": "crop"},
        **{"background": "white", "sample_rate": None, "seconds": 2.0, "cut": "windows", "loudness": None},
        **{"max_bad": 0.2, "limit": None},
    }
    expected = data_config("folder:x", modality="audio", channels=2, seconds=2.0, cut="windows")
    assert from_plain(DataConfig, older) == expected
    assert from_plain(DataConfig, {"source": "fashion-mnist", "kind": None, "size": 32}) == data_config(size=32)
    with pytest.raises(ValueError, match="has no key 'szie'"):
        from_plain(DataConfig, {**older, "szie": 3})


def test_reading_a_configuration_costs_neither_torch_nor_numpy():
    code = "import sys, unistep.data; unistep.data.DataConfig(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    home = {**os.environ, "PYTHONPATH": str(Path(options.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_unknown_name_is_an_attribute_error():
    import unistep.data

    with pytest.raises(AttributeError, match="Loadr"):
        unistep.data.Loadr  # noqa: B018
