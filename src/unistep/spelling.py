"""The one "did you mean": the nearest of several words, for messages about one that is none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

LETTERS_PER_MISTAKE = 3
"""A word of so many letters may have one mistake and still be suggested, one of twice as many two, and so on."""

LEAST_BEGINNING = 3
"""Letters of the beginning of a word that suggest all of it."""


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that ``word`` most likely stands for, without regard to case; ``None`` where none is close.

    A choice is close if it differs from ``word`` by few mistakes for its length, or if ``word`` is its beginning.

    Args:
        word: What was written.
        choices: What could have been meant.
    """
    word = word.lower()
    scored = [(_mistakes(word, choice.lower()), choice) for choice in choices if choice]
    close = [(mistakes, choice) for mistakes, choice in scored if mistakes is not None]
    return min(close, key=lambda pair: pair[0])[1] if close else None


def _mistakes(word: str, choice: str) -> int | None:
    """How many mistakes turn ``choice`` into ``word``, or ``None`` where they are too many for a mistake."""
    longest = max(len(word), len(choice))
    common = (Counter(word) & Counter(choice)).total()
    if longest - common <= longest // LETTERS_PER_MISTAKE:  # no pair has fewer mistakes, and they take long to count
        mistakes = edit_distance(word, choice)
        if mistakes <= longest // LETTERS_PER_MISTAKE:
            return mistakes
    return len(choice) - len(word) if len(word) >= LEAST_BEGINNING and choice.startswith(word) else None


def edit_distance(one: str, other: str) -> int:
    """Letters to insert, delete, replace or swap with the next one to get from ``one`` to ``other``.

    References:
        Boytsov (2011), "Indexing methods for approximate dictionary searching", section 2.2.1: the restricted
        Damerau-Levenshtein distance.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before = before, row
        row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint at the closest valid choice, and the list of all: the second half of an error message."""
    names = sorted(choices)
    near = closest(name, names)
    return (f"did you mean {near!r}? " if near else "") + f"valid: {', '.join(names)}"


def nearest_hint(value: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the choice closest to ``value``, or nothing where none is close."""
    near = closest(value, choices)
    return f"; did you mean {near!r}?" if near else ""


def check_choices(options: object) -> None:
    """Check the fields of a dataclass whose types are a few words, which only a file's reader would do otherwise.

    Args:
        options: An instance.

    Raises:
        ValueError: Naming the field, its value and the words.
    """
    for name, choices in _choices(type(options)).items():
        value = getattr(options, name)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


@cache
def _choices(kind: type) -> Mapping[str, tuple[Any, ...]]:
    try:
        hints = get_type_hints(kind)
    except NameError:  # a class of a person's own, whose types are names of a function: nothing is known of them
        return {}
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
