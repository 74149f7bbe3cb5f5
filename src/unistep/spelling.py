"""The one "did you mean": the nearest of several words, for messages about one that is none of them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

LIKE = 0.5
"""Least likeness of a word that is suggested: twice the letters in common, by the letters of both."""


def closest(word: str, choices: Iterable[str], least: float = LIKE) -> str | None:
    """The choice most like ``word``, without regard to case; ``None`` where none is like it.

    Args:
        word: What was written.
        choices: What could have been meant.
        least: Least likeness, in [0, 1].
    """
    word = word.lower()

    def likeness(choice: str) -> tuple[float, int]:
        # Two letters that changed places score like any other two mistakes; the same letters are more likely meant.
        lowered = choice.lower()
        common = (Counter(lowered) & Counter(word)).total()
        if 2 * common < least * (len(lowered) + len(word)):  # the ratio is at most that, and far slower to find
            return 0.0, common
        return difflib.SequenceMatcher(None, lowered, word).ratio(), common

    scored = [(likeness(choice), choice) for choice in choices]
    close = [(score, choice) for score, choice in scored if score[0] >= least and score[1]]
    return max(close, key=lambda pair: pair[0])[1] if close else None


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint at the closest valid choice, and the list of all: the second half of an error message."""
    names = sorted(choices)
    near = closest(name, names)
    return (f"did you mean {near!r}? " if near else "") + f"valid: {', '.join(names)}"


def nearest_hint(value: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the choice most like ``value``, or nothing where none is like it."""
    near = closest(value, choices)
    return f"; did you mean {near!r}?" if near else ""
