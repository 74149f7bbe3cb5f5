"""Conditions: parsing by name, and dropping them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unistep.core.condition import (
    Action,
    ActionField,
    Label,
    LabelField,
    ScalarField,
    Value,
    Vector,
    VectorField,
    drop,
    null_condition,
    parse_condition,
)
from unistep.core.note_names import note_names, note_number

CLASSES = LabelField(size=3, names=("T-shirt", "Trouser", "Pullover"))
FIELDS = {"label": CLASSES, "pitch": LabelField(size=128)}


@pytest.mark.parametrize(("value", "wanted"), [(0, 0), (2, 2), ("1", 1), (" 2 ", 2), ("trouser", 1), ("T-SHIRT", 0)])
def test_a_value_is_a_number_or_a_name(value: int | str, wanted: int) -> None:
    assert CLASSES.position("label", value) == wanted


@pytest.mark.parametrize("value", [-1, 3, "3", "-1", 10**9])
def test_a_number_out_of_range_is_refused_with_the_choices(value: int | str) -> None:
    with pytest.raises(ValueError, match=rf"label must be 0 to 2 \(0 T-shirt, 1 Trouser, 2 Pullover\), got {value}"):
        CLASSES.position("label", value)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="got 'trousers'; did you mean 'Trouser'"):
        CLASSES.position("label", "trousers")
    with pytest.raises(ValueError, match="pitch must be 0 to 127, got 'C4'"):
        FIELDS["pitch"].position("pitch", "C4")
    with pytest.raises(ValueError, match=r"got '1\.5'"):
        FIELDS["pitch"].position("pitch", "1.5")
    with pytest.raises(ValueError, match="got ''"):
        FIELDS["pitch"].position("pitch", "")


@pytest.mark.parametrize("names", [("A", "a", "B"), ("1", "2", "3"), ("0", "1", "10", "2"), (" cat", "cat")])
def test_each_value_is_found_by_its_name(names: tuple[str, ...]) -> None:
    """Letters that differ in capitals alone, and names that look like the numbers of others."""
    field = LabelField(size=len(names), names=names)
    assert [field.position("label", name) for name in field.known] == list(range(len(names)))
    assert LabelField(size=3, first=5).known == range(5, 8)


def test_one_value_serves_all_and_a_sequence_one_each() -> None:
    condition = parse_condition(FIELDS, {"label": "pullover", "pitch": [1, "2", 3]}, 3)
    assert condition["label"].index.tolist() == [2, 2, 2]
    assert condition["pitch"].index.tolist() == [1, 2, 3]
    assert condition["label"].index.dtype == torch.long


def test_none_leaves_a_field_out() -> None:
    assert parse_condition(FIELDS, {"label": None}, 2) == {}


def test_mistakes_in_a_condition_say_what_is_there() -> None:
    with pytest.raises(ValueError, match="no condition 'labels'; it takes label, pitch"):
        parse_condition(FIELDS, {"labels": 1}, 2)
    with pytest.raises(ValueError, match="it takes none: it is unconditional"):
        parse_condition({}, {"label": 1}, 2)
    with pytest.raises(ValueError, match="label has 3 values for 2 samples"):
        parse_condition(FIELDS, {"label": [0, 1, 2]}, 2)


def test_dropping_takes_all_fields_of_an_item_together(generator: torch.Generator) -> None:
    condition = {"label": torch.arange(4000) % 3, "pitch": torch.arange(4000) % 128}
    dropped = drop(condition, 0.25, generator)
    kept = dropped["label"].has_condition()
    assert torch.equal(kept, dropped["pitch"].has_condition())
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(dropped["label"].tensors["index"][kept], condition["label"][kept])
    assert condition["label"].min() == 0


def test_dropping_none_and_all(generator: torch.Generator) -> None:
    condition = {"label": torch.tensor([0, 1, 2])}
    assert torch.equal(drop(condition, 0.0, generator)["label"].tensors["index"], condition["label"])
    assert not drop(condition, 1.0, generator)["label"].has_condition().any()
    assert drop({}, 0.5, generator) == {}


def test_without_says_nothing_for_as_many_items() -> None:
    empty = null_condition({"label": torch.tensor([0, 1, 2])})
    assert empty["label"].index.tolist() == [-1, -1, -1]
    assert empty["label"].index.dtype == torch.long


KEYS = LabelField(size=3, names=("C4", "C#4", "D4"), first=60)
FORCE = ScalarField(low=1, high=127)


@pytest.mark.parametrize(("value", "wanted"), [(60, 0), ("62", 2), ("c#4", 1)])
def test_a_field_may_count_from_another_number(value: int | str, wanted: int) -> None:
    assert KEYS.position("pitch", value) == wanted
    with pytest.raises(ValueError, match=r"pitch must be 60 to 62 \(60 C4, 61 C#4, 62 D4\), got 0"):
        KEYS.position("pitch", 0)


SCALE = LabelField(size=4, names=("C4", "D4", "F#4", "G4"), numbers=(60, 62, 66, 67))


@pytest.mark.parametrize(("value", "wanted"), [(60, 0), ("66", 2), ("f#4", 2), ("Gb4", 2), (67, 3)])
def test_a_field_may_have_numbers_that_are_not_in_a_row(value: int | str, wanted: int) -> None:
    assert SCALE.position("pitch", value) == wanted
    for other in (0, 61, "C#4", 68):
        with pytest.raises(ValueError, match="pitch must be one of 60 C4, 62 D4, 66 F#4, 67 G4, got"):
            SCALE.position("pitch", other)


@pytest.mark.parametrize("numbers", [(60, 62), (60, 62, 66, 66), (62, 60, 66, 67)])
def test_numbers_that_do_not_fit_their_field_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a number for each value, in rising order"):
        LabelField(size=4, numbers=numbers)


def test_a_range_takes_the_numbers_in_it() -> None:
    condition = parse_condition({"force": FORCE}, {"force": [1, "64.5", 127]}, 3)
    assert condition["force"].value.tolist() == [1, 64.5, 127]
    assert condition["force"].value.dtype == torch.float32
    for wrong in (0.5, "loud", "nan", 128):
        with pytest.raises(ValueError, match=f"force must be a number from 1 to 127, got '{wrong}'"):
            FORCE.number("force", wrong)


def test_a_range_that_is_not_given_has_its_default_or_is_drawn_inside(generator: torch.Generator) -> None:
    assert ScalarField(low=1, high=4, default=2).draw(3, generator).value.tolist() == [2, 2, 2]
    drawn = FORCE.draw(1000, generator).value
    assert 1 <= drawn.min() < 10
    assert 118 < drawn.max() <= 127


@pytest.mark.parametrize(
    "wrong", [{"low": 1, "high": 1}, {"low": 0, "high": torch.inf}, {"low": 0, "high": 1, "default": 2}]
)
def test_a_range_without_room_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a range needs finite low < high"):
        ScalarField(**wrong)
    with pytest.raises(ValueError, match="a field needs at least one value, and a name for each or none"):
        LabelField(size=2, names=("one",))


def test_numbers_and_classes_are_dropped_together(generator: torch.Generator) -> None:
    condition = {"label": torch.arange(400) % 3, "force": torch.rand(400)}
    dropped = drop(condition, 0.25, generator)
    assert torch.equal(dropped["label"].index == -1, dropped["force"].value.isnan())
    assert 50 < dropped["force"].value.isnan().sum() < 150
    assert null_condition(condition)["force"].value.isnan().all()


@pytest.mark.parametrize(
    ("name", "number"),
    [("C4", 60), ("a4", 69), ("C#4", 61), ("Db4", 61), ("F♯3", 54), ("B♭2", 46), ("Cb4", 59), ("B#3", 60), ("C-1", 0)],
)
def test_pitches_have_the_numbers_that_midi_gives_them(name: str, number: int) -> None:
    assert note_number(name) == number


@pytest.mark.parametrize("word", ["H4", "C", "60", "Cx4", "c4s", ""])
def test_other_words_are_no_pitches(word: str) -> None:
    assert note_number(word) is None


def test_names_of_pitches_are_read_back() -> None:
    assert [note_number(name) for name in note_names(0, 127)] == list(range(128))


@pytest.mark.parametrize(("value", "wanted"), [("C4", 12), ("c4", 12), ("Db4", 13), ("C#4", 13), (60, 12), ("60", 12)])
def test_a_field_of_pitches_takes_every_way_to_write_one(value: int | str, wanted: int) -> None:
    assert LabelField(size=37, names=note_names(48, 84), first=48).position("pitch", value) == wanted


def test_pitches_out_of_range_are_refused_with_the_range() -> None:
    field = LabelField(size=37, names=note_names(48, 84), first=48)
    for value in ("C7", "B2", 47, "H4"):
        with pytest.raises(ValueError, match="pitch must be 48 to 84, or C3 to C6, got"):
            field.position("pitch", value)
    with pytest.raises(ValueError, match=r"got 'C4'"):
        LabelField(size=128).position("pitch", "C4")  # a field that does not name its values by pitch


@pytest.mark.parametrize("value", [np.int64(61), np.float32(61), torch.tensor(61), 61.0, "61"])
def test_numbers_of_other_libraries_are_numbers(value: object) -> None:
    assert KEYS.position("pitch", value) == 1  # type: ignore[arg-type]
    assert parse_condition({"pitch": KEYS}, {"pitch": value}, 2)["pitch"].index.tolist() == [1, 1]  # type: ignore[dict-item]


def test_what_is_no_value_is_refused_by_name() -> None:
    for field in (KEYS, FORCE):
        with pytest.raises(ValueError, match="pitch must be a number, a text, or several of them, got <object"):
            parse_condition({"pitch": field}, {"pitch": object()}, 2)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"pitch must be 60 to 62 .*, got 'F4'"):
        KEYS.position("pitch", "F4")


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        (LabelField(size=3), Label(torch.tensor([0, 3])), "classes numbered from 0 to 2, negative for none, got 3"),
        (VectorField(size=3), Vector(torch.zeros(2, 4)), r"vectors of 3 numbers, got a tensor of shape \[2, 4\]"),
        (
            ActionField(names=("gas",), low=(0.0,), high=(1.0,)),
            Action(torch.zeros(2, 5, 2)),
            r"vectors of 1 number, got a tensor of shape \[2, 5, 2\]",
        ),
    ],
)
def test_typed_values_that_a_field_does_not_have_are_refused(spec, given: Value, message: str) -> None:
    with pytest.raises(ValueError, match=f"x must be {message}"):
        parse_condition({"x": spec}, {"x": given}, 2)
    assert len(parse_condition({"x": spec}, {"x": spec.null(2)}, 2)["x"]) == 2
