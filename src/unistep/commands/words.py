"""The nearest of several words, for error messages."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable


def nearest_of(word: str, choices: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the choice most like ``word``, or nothing where none is like it."""
    word = word.lower()

    def likeness(choice: str) -> tuple[float, int]:
        # Two letters that changed places score like any other two mistakes; the same letters are more likely meant.
        return difflib.SequenceMatcher(None, choice, word).ratio(), (Counter(choice) & Counter(word)).total()

    close = difflib.get_close_matches(word, list(choices), n=3, cutoff=0.5)
    return f", did you mean {max(close, key=likeness)!r}?" if close else ""
