"""Tables and texts of actions: what they say, and what is wrong with them in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unistep.core.action_fields import ActionField
from unistep.data.action_files import parse_actions, read_actions

FIELD = ActionField(
    names=("steer", "gas"), low=(-1, 0), high=(1, 1), presets={"left": (-1, 0), "right": (1, 0), "gas": (0, 1)}
)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "actions.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "steer,gas\n-1,1\n-1,1\n0.5,0\n",
        "gas,steer\r\n1,-1\r\n1,-1\r\n,0.5\r\n",
        "steer, gas, frames\n-1, 1, 2\n\n0.5, 0, 1\n",
        "\ufeffaction,frames\nleft+gas,2\n0.5 0,1\n",
        "frames,action\n1,LEFT+gas\n1,-1;1\n1,0.5 0",
    ],
)
def test_a_table_has_a_row_for_each_frame(tmp_path: Path, text: str) -> None:
    assert torch.equal(read_actions(table(tmp_path, text), FIELD), torch.tensor([[-1.0, 1], [-1, 1], [0.5, 0]]))


@pytest.mark.parametrize(
    "text", ["steer,gas\n-1,1\n,\n , \n0,1\n", "steer,gas,frames\n-1,1,1\n,,\n\n,,\n0,1,1\n,,\n,,\n"]
)
def test_a_row_of_empty_cells_is_a_frame_in_which_nothing_is_done(tmp_path: Path, text: str) -> None:
    """Left out it would move all that follows by a frame; spreadsheets leave some at the end."""
    assert read_actions(table(tmp_path, text), FIELD).tolist() == [[-1, 1], [0, 0], [0, 0], [0, 1]]


def test_an_empty_cell_of_a_single_column_is_a_row(tmp_path: Path) -> None:
    """As Python's own writer of such tables has it; a blank line is none."""
    text = 'gas\n1\n""\n\n  \n""\n1\n""\n""\n'
    assert read_actions(table(tmp_path, text), FIELD)[:, 1].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(("known", "rows"), [(0, 2), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_rows_at_the_end_in_which_nothing_is_done_count_as_far_as_there_are_frames(
    tmp_path: Path, known: int, rows: int
) -> None:
    found = read_actions(table(tmp_path, "steer,gas\n-1,1\n0,1\n,\n,\n"), FIELD, known=known)
    assert found.tolist() == [[-1, 1], [0, 1], [0, 0], [0, 0]][:rows]


def test_controls_without_a_column_are_left_alone_and_may_have_any_name(tmp_path: Path) -> None:
    assert read_actions(table(tmp_path, "gas\n1\n0.25\n"), FIELD).tolist() == [[0, 1], [0, 0.25]]
    odd = ActionField(names=("frames", "action"), low=(0, 0), high=(9, 9))
    assert read_actions(table(tmp_path, "action,frames\n1,2\n"), odd).tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: expected columns for steer, gas or action, got neither"),
        ("frames\n3\n", "line 1: expected columns for steer, gas or action, got neither"),
        ("action,gas\nleft,1\n", "line 1: expected columns for steer, gas or action, got both"),
        ("steer,gass\n0,0\n", "line 1: no control 'gass'; expected steer, gas, action, frames; did you mean 'gas'?"),
        ("gas,gas\n0,0\n", "line 1: the column 'gas' is there twice"),
        ("steer,gas\n", "has no row under its header"),
        ("steer,gas\n0,0\n0\n", "line 3: expected 2 values, got 1"),
        ("steer,gas\n0,0,0\n", "line 2: expected 2 values, got 3"),
        ("steer,gas\n0,0\n0,2\n", "line 3: gas must be a number from 0 to 1, got '2'"),
        ("steer,gas\nnan,0\n", "line 2: steer must be a number from -1 to 1, got 'nan'"),
        ("steer,gas\nleft,0\n", "line 2: steer must be a number from -1 to 1, got 'left'"),
        ("action\nleft\nlefft\n", "line 3: action must be left, right, gas"),
        ("action,frames\nleft,0\n", "line 2: frames must be a whole number from 1, got '0'"),
        ("action,frames\nleft,1.5\n", "line 2: frames must be a whole number from 1, got '1.5'"),
        ("action,frames\nleft,9999999999\n", "line 2: 9,999,999,999 frames so far are more than 10,000,000"),
        ('action\n"left\n', "is no CSV file: unexpected end of data"),
    ],
)
def test_a_mistake_names_the_file_the_line_and_the_control(tmp_path: Path, text: str, words: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(ValueError, match=r"actions\.csv") as caught:
        read_actions(path, FIELD)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere.csv: no such file"):
        read_actions(tmp_path / "nowhere.csv", FIELD)
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_actions(tmp_path, FIELD)
    with pytest.raises(ValueError, match="is no CSV file"):
        read_actions(table(tmp_path, "action\nä\n", "latin-1"), FIELD)


def test_a_script_says_what_is_done_and_for_how_long() -> None:
    found = parse_actions("gas*2, left+gas, 0.5 0*1,none*2", FIELD)
    assert found.tolist() == [[0, 1], [0, 1], [-1, 1], [0.5, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gas*2,lefft*3", "part 2 of the script, 'lefft*3': action must be left, right, gas"),
        ("gas*0", "part 1 of the script, 'gas*0': frames must be a whole number from 1, got '0'"),
        ("gas*x", "frames must be a whole number from 1, got 'x'"),
        ("gas,,left", "part 2 of the script, '': expected an action, such as none or left"),
        ("1 2 3", "action must be 2 numbers, steer gas, got 3"),
        ("gas*10000000,left", "part 2 of the script, 'left': 10,000,001 frames so far are more than 10,000,000"),
    ],
)
def test_a_mistake_in_a_script_names_its_part(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="script") as caught:
        parse_actions(text, FIELD)
    assert words in str(caught.value)
