"""Files to tensors and back, one file per kind of signal; imported when first used, as reading files needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.modalities.image import ImageModality

__all__ = ["ImageModality"]


def __getattr__(name: str) -> object:
    if name != "ImageModality":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from unistep.modalities.image import ImageModality

    return ImageModality
