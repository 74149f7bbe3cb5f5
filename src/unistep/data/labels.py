"""Classes as numbers, whatever names or numbers a source gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unistep.data.sources.base import Label

KINDS = "kinds"
"""Key of a cache's description: the kind of each item."""
_MOST_CLASSES = 100_000


def number_labels(labels: Sequence[Label], names: tuple[str, ...] = ()) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers for classes, in the order of their names; whole numbers stay what they are.

    Args:
        labels: One per item; ``None`` or a negative number is no class.
        names: Names of numbered classes, where they are known.

    Returns:
        Array of shape ``[n]``, int64, with -1 for no class, and a name for every number; ``None`` and no names where
        no item has a class.

    Raises:
        ValueError: If a number is beyond the names, or too large to be that of a class.
    """
    given = [label for label in labels if label is not None and not (isinstance(label, int) and label < 0)]
    if not given:
        return None, ()
    if all(isinstance(label, int) for label in given):
        largest = max(int(label) for label in given)
        if largest >= (len(names) or _MOST_CLASSES):
            raise ValueError(f"labels must be numbers from 0 to {(len(names) or _MOST_CLASSES) - 1}, got {largest}")
        names = names or tuple(str(i) for i in range(largest + 1))
        return np.array([-1 if x is None else max(-1, int(x)) for x in labels], np.int64), names
    names = tuple(sorted({str(label) for label in given}))
    numbers = {name: i for i, name in enumerate(names)}
    return np.array([-1 if x is None else numbers.get(str(x), -1) for x in labels], np.int64), names


def count_classes(numbers: np.ndarray | None, names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """How many items each class has; with those of no class last."""
    if numbers is None:
        return ()
    counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
    without = int((numbers < 0).sum())
    return (*zip(names, counts.tolist(), strict=True), *([("no label", without)] if without else []))


def number_kin(kin: Sequence[str | None]) -> list[int]:
    """A number for what each item is a variant of; -1 for an item that stands alone."""
    numbers: dict[str, int] = {}
    return [-1 if name is None else numbers.setdefault(name, len(numbers)) for name in kin]
