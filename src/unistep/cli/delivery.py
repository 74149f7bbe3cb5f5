"""Handing the chunks of a stream to a pipe or a file, with a clean end whatever happens."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unistep.generation.pacing import Deadlines
from unistep.provenance import Provenance, mark_file

if TYPE_CHECKING:
    from torch import Tensor

    from unistep.modalities.stream_output import StreamOutput

POLITE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a command to end."""


def deliver(
    chunks: Iterable[Tensor],
    path: Path | None,
    output: StreamOutput,
    deadlines: Deadlines,
    provenance: Provenance | None = None,
) -> bool:
    """Hand chunks on until their end, until Ctrl-C, or until the reader closes the pipe.

    Args:
        chunks: The chunks.
        path: The file; standard output without.
        output: How they are played and written.
        deadlines: Says when, and what became of them.
        provenance: What a file says of its origin.

    Returns:
        Whether it was interrupted; a file is whole all the same.

    Raises:
        KeyboardInterrupt: If it was interrupted before the first chunk: there is nothing to put in the place of what
            was there.
    """
    show, interrupted = _Health(deadlines), False
    try:
        with _sink(path, output, provenance) as put, polite_kill():
            try:
                for chunk in chunks:
                    deadlines.made()
                    put(chunk)
                    deadlines.handed()
                    show()
            except KeyboardInterrupt:
                if deadlines.chunks == 0:
                    raise
                interrupted = True
    finally:
        show.last()
    return interrupted


class _Health:
    """A line on standard error: live where that is a terminal, once at the end where not."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines, self._live, self._shown = deadlines, sys.stderr.isatty(), 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if self._live and now - self._shown > 1:
            self._shown = now
            print(f"\r{self._deadlines}\033[K", end="", file=sys.stderr, flush=True)

    def last(self) -> None:
        begin = "\r\033[K" if self._live else ""
        known = self._deadlines
        first = f", first {known.content} after {known.first:.2f} s" if known.chunks else ""
        print(f"{begin}{self._deadlines}; {self._deadlines.elapsed:.1f} s in all{first}", file=sys.stderr)


@contextmanager
def _sink(
    path: Path | None, output: StreamOutput, provenance: Provenance | None
) -> Iterator[Callable[[Tensor], object]]:
    """Where chunks go; a file takes its place when the block ends, and is whole then."""
    if path is not None:
        with output.open_file(path, partial(mark_file, provenance=provenance)) as put:
            yield put
        return
    pipe = sys.stdout.buffer

    def hand_on(chunk: Tensor) -> None:
        try:
            pipe.write(output.to_bytes(chunk))
            pipe.flush()
        except OSError as error:  # with a name; one of a reader that left stays a BrokenPipeError
            raise OSError(error.errno, error.strerror, "standard output") from None

    yield hand_on


@contextmanager
def polite_kill() -> Iterator[None]:
    """For the block, a polite kill, or a terminal that is closed, ends what goes on as Ctrl-C does.

    A signal that is ignored, as by ``nohup``, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    heeded = [number for number in POLITE if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    held = {number: signal.signal(number, signal.default_int_handler) for number in heeded}
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
