"""Sources of training data, prepared once into a cache, and the order in which they are seen.

Names are imported when first used, so that reading a configuration costs neither NumPy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from unistep.data.options import DataConfig, data_config

if TYPE_CHECKING:
    from unistep.data.dataset import Dataset
    from unistep.data.loader import Loader
    from unistep.data.prepared import PreparedDataset
    from unistep.data.preparing import prepare
    from unistep.data.summary import Skipped, Summary
    from unistep.data.tensors import Concatenation, Subset

__all__ = [
    "Concatenation",
    "DataConfig",
    "Dataset",
    "Loader",
    "PreparedDataset",
    "Skipped",
    "Subset",
    "Summary",
    "data_config",
    "prepare",
]

_HOMES = {
    "Concatenation": "tensors",
    "Dataset": "dataset",
    "Loader": "loader",
    "PreparedDataset": "prepared",
    "Skipped": "summary",
    "Subset": "tensors",
    "Summary": "summary",
    "prepare": "preparing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
