"""The word that was meant."""

from __future__ import annotations

import pytest

from unistep.recipes import recipes
from unistep.spelling import closest, nearest, nearest_hint


@pytest.mark.parametrize(
    ("word", "choices", "meant"),
    [
        ("fashion-etc", ("fashion-tcm", "fashion-ect", "fashion-cd"), "fashion-ect"),
        ("fashion-etc", tuple(sorted(recipes())), "fashion/ect"),
        ("FASHION", ("fashion", "fashion-teacher"), "fashion"),
        ("verb", ("Verb", "verbose"), "Verb"),
        ("x", ("fashion",), None),
        ("", ("fashion", ""), None),
        ("fashion", (), None),
    ],
)
def test_the_nearest_word(word: str, choices: tuple[str, ...], meant: str | None) -> None:
    assert closest(word, choices) == meant


def test_all_hints_are_of_one_kind() -> None:
    assert nearest("fashion-etc", ("fashion-tcm", "fashion-ect")).startswith("did you mean 'fashion-ect'?")
    assert nearest("HEUN", ("euler", "heun")).startswith("did you mean 'heun'?")
    assert nearest_hint("Corp", ("stretch", "crop")) == "; did you mean 'crop'?"
