"""The nearest of several words, for error messages."""

from __future__ import annotations

from collections.abc import Iterable

from unistep.spelling import closest


def nearest_of(word: str, choices: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the choice most like ``word``, or nothing where none is like it."""
    near = closest(word, choices)
    return f", did you mean {near!r}?" if near else ""
