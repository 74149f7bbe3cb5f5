from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unistep.data import DataConfig
from unistep.data import options as config


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("size", 0, "1 to 8192"),
        ("size", -3, "-3"),
        ("channels", 2, "1 (grey) or 3 (RGB)"),
        ("fit", "corp", "did you mean 'crop'"),
        ("background", "wite", "did you mean 'white'"),
        ("max_bad", 1.5, "from 0 to 1"),
        ("limit", 0, "at least 1"),
        ("size", 8.5, "size must be a whole number, got 8.5"),
        ("size", True, "size must be a whole number, got True"),
        ("limit", "5", "limit must be a whole number, got '5'"),
        ("sample_rate", 16e3, "sample_rate must be a whole number, got 16000.0"),
        ("seconds", "1", "seconds must be a number, got '1'"),
        ("max_bad", None, "max_bad must be a number, got None"),
        ("source", Path("x"), "source must be a text such as folder:PATH, got PosixPath('x')"),
        ("fit", None, "fit must be a text such as crop, got None"),
    ],
)
def test_wrong_options_name_the_value_and_the_fix(field, value, words):
    with pytest.raises(ValueError, match=field.split("_")[0]) as caught:
        DataConfig(**{field: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reading_a_configuration_costs_neither_torch_nor_numpy():
    code = "import sys, unistep.data; unistep.data.DataConfig(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    home = {**os.environ, "PYTHONPATH": str(Path(config.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_unknown_name_is_an_attribute_error():
    import unistep.data

    with pytest.raises(AttributeError, match="Loadr"):
        unistep.data.Loadr  # noqa: B018
