"""Output of the commands: a progress bar for people only, and nothing but text for files."""

from __future__ import annotations

import io

import pytest

from unistep.cli import console
from unistep.cli.console import make_console, progress


class Terminal(io.StringIO):
    """Passes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "patience", "shown"), [(Terminal, 0.0, True), (Terminal, 60.0, False), (io.StringIO, 0.0, False)]
)
def test_long_work_has_a_bar_on_a_terminal_only(stream, patience, shown, monkeypatch):
    written = stream()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr(console, "PATIENCE", patience)
    monkeypatch.setenv("TERM", "xterm")
    with progress("sampling") as update:
        for share in (0.25, 0.5, 1.0):
            update(share)
    assert ("sampling" in written.getvalue()) == shown
    assert shown or written.getvalue() == ""


def test_what_goes_to_a_file_is_plain_and_wide_enough(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr("sys.stdout", written)
    monkeypatch.delenv("COLUMNS", raising=False)
    make_console(unfolded=True).print(f"[bold]{'x' * 150}[/bold]")
    assert written.getvalue() == "x" * 150 + "\n"


def test_a_reader_that_left_is_the_commands_business():
    with pytest.raises(BrokenPipeError):
        make_console().on_broken_pipe()
