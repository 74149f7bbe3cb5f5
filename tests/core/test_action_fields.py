"""Actions of a player: texts, numbers and arrays, of one frame and of clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unistep.core.action_fields import ActionField
from unistep.core.condition import Action, VectorField, parse_condition

FIELD = ActionField(
    names=("steer", "gas", "brake"),
    low=(-1, 0, 0),
    high=(1, 1, 1),
    presets={"left": (-1, 0, 0), "right": (1, 0, 0), "gas": (0, 1, 0), "brake": (0, 0, 0.8)},
)


def parsed(given: object, count: int = 1) -> torch.Tensor:
    return FIELD.parse("action", given, count).tensors["vector"]


def test_names_of_keys_are_added_up():
    assert parsed("left+gas").tolist() == [[-1, 1, 0]]
    assert parsed("left + right").tolist() == [[0, 0, 0]]
    assert parsed("LEFT+left").tolist() == [[-1, 0, 0]]
    assert parsed(["none", "", "gas"], 3).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_numbers_in_a_text_and_arrays():
    assert parsed("-0.5 1 0").tolist() == [[-0.5, 1, 0]]
    assert parsed("-0.5; 1; 0").tolist() == [[-0.5, 1, 0]]
    assert parsed(np.array([0.0, 0.25, 0]), 2).tolist() == [[0, 0.25, 0]] * 2


def test_a_clip_has_an_action_for_each_frame():
    clip = torch.tensor([[0.0, 0, 0], [1, 0, 0.5], [-1, 1, 0]])
    value = FIELD.parse("action", clip, 2)
    assert isinstance(value, Action)
    assert value.vector.shape == (2, 3, 3)
    assert torch.equal(value.frame(-1).vector, clip[None, -1].expand(2, -1))
    assert torch.equal(value.frame(1).frame(-1).vector, clip[None, 1].expand(2, -1))
    assert value.has_condition().all()
    assert not value.null().has_condition().any()


def test_columns_of_a_cache_keep_clips():
    clips = [np.random.default_rng(i).random((4, 3), np.float32) for i in range(3)]
    columns = FIELD.to_columns("action", clips)
    back = FIELD.from_columns(columns, np.array([2, 0]))
    assert torch.equal(back.tensors["vector"], torch.from_numpy(np.stack([clips[2], clips[0]])))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lift", r"got 'lift'; did you mean 'left'\?"),
        ("1 2", r"action must be 3 numbers, steer gas brake, got 2: '1 2'"),
        ("-2 0 0", r"steer of action must be from -1 to 1, got -2"),
        ("0 nan 0", r"gas of action must be from 0 to 1, got nan"),
        (torch.zeros(2), r"got one of shape \[2\]"),
        (torch.tensor([[0.0, 0, 0], [0, 0, -1]]), r"brake of action must be from 0 to 1, got -1"),
        (torch.tensor([torch.nan, 0, 0]), r"action must have finite values; 1 are not"),
    ],
)
def test_other_values_are_refused_in_a_line(given, message):
    with pytest.raises(ValueError, match=message):
        parsed(given)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"must have one length, got \[\[3\], \[2, 3\]\]"):
        parsed([torch.zeros(3), torch.zeros(2, 3)], 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ()}, "needs a control or more"),
        ({"low": (0.5, 0, 0)}, "must hold 0"),
        ({"high": (1, 1)}, "a low and a high for each"),
        ({"presets": {"none": (0, 0, 0)}}, "a preset needs a name"),
        ({"presets": {"up": (0, 2, 0)}}, "gas of up must be from 0 to 1, got 2"),
        ({"high": (1, math.inf, 1)}, "range of a control must hold 0"),
    ],
)
def test_fields_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ActionField(**{**vars(FIELD), **changes})


def test_presets_are_for_people():
    other = ActionField(names=FIELD.names, low=FIELD.low, high=FIELD.high)
    assert FIELD.agrees(other)
    assert not FIELD.agrees(ActionField(names=("a", "b", "c"), low=FIELD.low, high=FIELD.high))
    assert not FIELD.agrees(VectorField(size=3))


def test_without_a_value_nothing_is_done():
    generator = torch.Generator().manual_seed(0)
    assert FIELD.draw(2, generator).tensors["vector"].tolist() == [[0, 0, 0]] * 2
    condition = parse_condition({"action": FIELD}, {"action": [None, "gas"]}, 2)
    assert condition["action"].tensors["vector"].tolist() == [[0, 0, 0], [0, 1, 0]]
