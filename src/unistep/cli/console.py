"""The console of the commands: its output appears at once, and a reader that leaves is the command's business."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

UNFOLDED = 200
"""Columns of a table where no terminal sets a limit."""


class CommandConsole(Console):
    """A console that leaves a broken pipe to :func:`unistep.cli.main.main`, which returns the exit code."""

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


PATIENCE = 1.0
"""Seconds of work that go by without a progress bar."""


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error for work that takes more than a second; only on a terminal, where it goes at the end.

    Args:
        what: What is going on, in one word.

    Yields:
        A function that takes the share of the work that is done, in [0, 1].
    """
    began = time.perf_counter()
    columns = TextColumn(what), BarColumn(), TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn()
    console = CommandConsole(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=1.0)

    def update(share: float) -> None:
        if not bar.live.is_started and time.perf_counter() - began > PATIENCE:
            bar.start()
        bar.update(task, completed=share)

    try:
        yield update
    finally:
        bar.stop()
