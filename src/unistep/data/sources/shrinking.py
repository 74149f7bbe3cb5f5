"""Pictures of games in a smaller size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def shrink(picture: np.ndarray, size: int) -> np.ndarray:
    """A square picture ``[side, side, 3]`` in a smaller size: means over the area of each pixel, exactly rounded."""
    if picture.shape[0] == size:
        return np.ascontiguousarray(picture)
    weights = _overlaps(picture.shape[0], size)
    rows = np.einsum("oh,hwc->owc", weights, picture.astype(np.float32), optimize=True)
    sums = np.einsum("pw,owc->opc", weights, rows, optimize=True)  # whole numbers below 2^24, so exact
    area = picture.shape[0] ** 2
    return ((sums.astype(np.int64) + area // 2) // area).astype(np.uint8)


@lru_cache(maxsize=8)
def _overlaps(side: int, size: int) -> np.ndarray:
    """How much of each old pixel lies in each new one, in ``size``-ths of an old pixel, float32 ``[size, side]``."""
    new, old = np.arange(size)[:, None] * side, np.arange(side)[None] * size
    return np.clip(np.minimum(new + side, old + size) - np.maximum(new, old), 0, None).astype(np.float32)
