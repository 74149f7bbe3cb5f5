"""The tests' own type checks: a kind of call passes once, and another kind still fails."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from checked import once, typecheck


def first_rows(x: Float[Tensor, "rows dim"], count: int) -> Float[Tensor, "rows dim"]:
    return x[:count]


def halves(x: dict[str, Float[Tensor, "b"]]) -> list[Tensor]:
    return [value / 2 for value in x.values()]


@pytest.fixture
def checked() -> object:
    return once(first_rows, typecheck)


def test_other_arguments_are_checked_after_some_have_passed(checked):
    x = torch.zeros(3, 2)
    assert checked(x, 3).shape == checked(x, 3).shape == (3, 2)
    for wrong in (torch.zeros(3), x.long(), None):
        with pytest.raises(TypeCheckError, match="parameters"):
            checked(wrong, 3)
    with pytest.raises(TypeCheckError, match="parameters"):
        checked(x, count="3")


def test_another_result_of_the_same_arguments_is_checked(checked):
    x = torch.zeros(3, 2)
    checked(x, 3)
    for _ in range(2):
        with pytest.raises(TypeCheckError, match="return value"):
            checked(x, 1)
    assert checked(x, 3).shape == (3, 2)


def test_what_is_inside_of_a_dictionary_is_checked():
    checked = once(halves, typecheck)
    assert len(checked({"a": torch.zeros(2)})) == 1
    with pytest.raises(TypeCheckError, match="parameters"):
        checked({"a": torch.zeros(2).long()})


def test_what_was_called_without_checks_has_not_passed(checked):
    wrong = torch.zeros(3, 2).long()
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        checked(wrong, 3)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    with pytest.raises(TypeCheckError, match="parameters"):
        checked(wrong, 3)
