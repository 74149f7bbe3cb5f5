"""The nearest of several words, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_of(word: str, choices: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the choice most like ``word``, or nothing where none is like it."""
    close = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""
