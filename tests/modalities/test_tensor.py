"""Arrays of one's own as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unistep.modalities.tensor import TensorModality, TensorOptions
from unistep.modalities.unusable import UnusableFileError


@pytest.mark.parametrize("value", [1e300, -1e39, np.nan, np.inf])
def test_what_single_precision_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, value]]))
    with pytest.raises(UnusableFileError, match="has values that are not numbers, or too large for single precision"):
        TensorModality.read(tmp_path / "a.npy", TensorOptions(shape=(1, 2)))
    np.save(tmp_path / "a.npy", np.array([[0.0, 1e38]]))
    assert TensorModality.read(tmp_path / "a.npy", TensorOptions(shape=(1, 2))).values.dtype == np.float32
