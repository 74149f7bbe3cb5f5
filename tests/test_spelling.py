"""The word that was meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from unistep.recipes import recipes
from unistep.spelling import check_choices, closest, edit_distance, nearest, nearest_hint


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
        ("phones", ("notes", "phrases", "drums"), None),
        ("drusm", ("notes", "phrases", "drums"), "drums"),
        ("notse:", ("notes", "phrases", "npz:"), "notes"),
        ("digits", ("image", "fixed"), None),
        ("phr", ("notes", "phrases", "drums"), "phrases"),
        ("ph", ("notes", "phrases", "drums"), None),
        ("fash", ("fashion-teacher", "fashion"), "fashion"),
    ],
)
def test_the_nearest_word(word: str, choices: tuple[str, ...], meant: str | None) -> None:
    assert closest(word, choices) == meant


@pytest.mark.parametrize(
    ("one", "other", "mistakes"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("abc", "abc", 0),
        ("kitten", "sitting", 3),
        ("heun", "huen", 1),
        ("ca", "abc", 3),
        ("phones", "phrases", 3),
    ],
)
def test_mistakes_between_two_words(one: str, other: str, mistakes: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == mistakes


def test_all_hints_are_of_one_kind() -> None:
    assert nearest("fashion-etc", ("fashion-tcm", "fashion-ect")).startswith("did you mean 'fashion-ect'?")
    assert nearest("HEUN", ("euler", "heun")).startswith("did you mean 'heun'?")
    assert nearest_hint("Corp", ("stretch", "crop")) == "; did you mean 'crop'?"


def test_options_of_types_that_nobody_can_look_up_are_left_alone() -> None:
    class Number(float):
        pass

    @dataclass(frozen=True, kw_only=True)
    class Options:
        size: Number
        word: Literal["a", "b"] = "a"

    check_choices(Options(size=Number(1), word="c"))  # type: ignore[arg-type]
