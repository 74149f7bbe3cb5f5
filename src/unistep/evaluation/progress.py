"""How far an evaluation is: a line with a bar for each of its rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@contextlib.contextmanager
def display(shown: bool, console: Console | None) -> Iterator[Progress | None]:
    """A display on standard error, or on another console; nothing off a terminal, or where it is not to be shown."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[speed]}", justify="right")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    console = console or Console(stderr=True)
    # Where there is no terminal, the bars would come at the end only, with an empty line after them.
    with Progress(*columns, console=console, disable=not console.is_interactive) as bar:
        yield bar


@contextlib.contextmanager
def line(display: Progress | None, what: str, total: int, kind: str) -> Iterator[Any]:
    """One line of the display; yields the function that counts finished items."""
    if display is None:
        yield None
        return
    task = display.add_task(what, total=total, speed="")

    begun, done = time.perf_counter(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        speed = done / max(time.perf_counter() - begun, 1e-9)
        display.update(task, advance=count, speed=f"{speed:,.0f} {kind}/s")

    yield advance
    display.update(task, completed=total)
