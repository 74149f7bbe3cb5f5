"""What you see while a model trains: the plan before, a progress bar or plain lines during, the next steps after."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_LONGEST = 1e9  # seconds that are still shown to the second


def duration(seconds: float) -> str:
    """A time as ``h:mm:ss``, of days and more with their number ahead of it."""
    if seconds > _LONGEST:
        return f"{seconds / 86_400:,.0f} days"
    return str(timedelta(seconds=round(seconds)))


def show_table(console: Console, title: str, rows: dict[str, str]) -> None:
    """Print a two-column table; in a file or a pipe, each row is one line, however long."""
    if not console.is_terminal:
        width = max(map(len, rows), default=0)
        for line in (title, *(f"{name:<{width}}  {value}" for name, value in rows.items())):
            show_line(console, line)
        return
    table = Table(title=title, show_header=False, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    console.print(table)


def show_line(console: Console, text: str, style: str | None = None) -> None:
    """Print one line as it is: no markup, no wrapping, so that a command in it can be copied."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class Display:
    """A progress bar on a terminal; elsewhere a line every ``interval`` seconds.

    Args:
        console: Where to show it.
        total: Number of optimizer steps, as planned at the start.
        start: Step that the run goes on from.
        noun: What is trained on, in the plural, such as images.
        interval: Seconds between plain lines.
    """

    def __init__(self, console: Console, total: int, start: int, noun: str = "images", interval: float = 30.0) -> None:
        self.noun = noun
        self.console = console
        self.total = total
        self.interval = interval
        self._begin, self._first, self._last_line = time.monotonic(), start, time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total, completed=start, status="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, step: int, loss: float, images_per_second: float, skipped: int, total: int | None = None) -> None:
        """Show the state after ``step`` of ``total`` steps; a deadline changes how many there are."""
        self.total = self.total if total is None else total
        status = f"loss {loss:.4f}  {images_per_second:.0f} {self.noun}/s" + (f"  {skipped} skipped" if skipped else "")
        self._bar.update(self._task, completed=step, total=self.total, status=status)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self._last_line >= self.interval or step >= self.total):
            self._last_line = now
            left = (now - self._begin) / max(step - self._first, 1) * (self.total - step)
            show_line(self.console, f"step {step}/{self.total}  {status}  {duration(left)} left")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        show_line(self._bar.console, text)

    def warn(self, text: str) -> None:
        """Print a line that should not be missed, above the bar."""
        show_line(self._bar.console, text, "yellow")
