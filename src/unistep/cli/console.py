"""The console of the commands: its output appears at once, and a reader that leaves is the command's business."""

from __future__ import annotations

import sys

from rich.console import Console

UNFOLDED = 200
"""Columns of a table where no terminal sets a limit."""


class CommandConsole(Console):
    """A console that leaves a broken pipe to :func:`unistep.cli.main.main`, which knows the exit code."""

    def on_broken_pipe(self) -> None:
        """Pass the error on, where rich would end the program with exit code 1."""
        raise BrokenPipeError


def make_console(*, unfolded: bool = False) -> CommandConsole:
    """A console on standard output.

    Args:
        unfolded: Whether tables have all the width they need where standard output is no terminal.
    """
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return CommandConsole(width=UNFOLDED if unfolded and not terminal else None)
