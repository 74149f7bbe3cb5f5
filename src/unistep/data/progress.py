"""A bar that shows how far preparing a data set is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(name: str, count: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar with speed and time left; gives the function that counts items."""
    if not show:
        yield lambda items=1: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # Where there is no terminal, the bar would leave an empty line.
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as bar:
        task = bar.add_task(f"preparing {escape(name)}", total=count, rate="")
        start = shown = time.monotonic()
        done = 0

        def advance(items: int = 1) -> None:
            nonlocal done, shown
            done += items
            now = time.monotonic()
            if now - shown > 0.1 or done >= count:  # for tiny items the bar would cost more than decoding
                shown = now
                bar.update(task, completed=done, rate=f"{done / max(now - start, 1e-9):,.0f} items/s")

        yield advance
