"""Sources of training data, prepared once into a cache, and the order in which they are seen.

Names are imported when first used, so that reading a configuration costs neither NumPy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from unistep.data.options import DataConfig

if TYPE_CHECKING:
    from unistep.data.dataset import Dataset, prepare
    from unistep.data.loader import Loader
    from unistep.data.summary import Skipped, Summary

__all__ = ["DataConfig", "Dataset", "Loader", "Skipped", "Summary", "prepare"]

_HOMES = {"Dataset": "dataset", "prepare": "dataset", "Loader": "loader", "Skipped": "summary", "Summary": "summary"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
