"""Files to tensors and back, one file per kind of signal; imported when first used, as reading files needs no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.modalities.audio import AudioModality
    from unistep.modalities.image import ImageModality
    from unistep.modalities.tensor import TensorModality
    from unistep.modalities.video import VideoModality

__all__ = ["AudioModality", "ImageModality", "TensorModality", "VideoModality"]

_HOMES = {
    "AudioModality": "audio",
    "ImageModality": "image",
    "TensorModality": "tensor",
    "VideoModality": "video",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
