"""How far an evaluation is, for a terminal only."""

from __future__ import annotations

import pytest

from unistep.evaluation.progress import display, line


def test_off_a_terminal_nothing_is_printed_before_an_error(capsys):
    def fail() -> None:
        with display(True, None) as bar, line(bar, "reference", 10, "images") as advance:
            advance(5)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert capsys.readouterr() == ("", "")
