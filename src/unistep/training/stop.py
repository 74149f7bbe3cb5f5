"""Requests to stop: Ctrl-C, a polite kill, or the caller's own; the step at hand is finished and saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Cancel = Callable[[], bool] | threading.Event
"""What asks a training to stop: a function that returns whether to, or an event that is set."""


class Stop:
    """Whether a training was asked to stop.

    Args:
        cancel: The caller's own request, looked at once a step.
    """

    def __init__(self, cancel: Cancel | None = None) -> None:
        self._cancelled = cancel.is_set if isinstance(cancel, threading.Event) else cancel
        self.signalled = False

    def asked(self) -> bool:
        """Whether to stop after the step at hand."""
        return self.signalled or (self._cancelled is not None and bool(self._cancelled()))

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take Ctrl-C and a polite kill for a request, for the block; a second one interrupts at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            del frame
            self.signalled = True
            signal.signal(number, signal.default_int_handler)

        self.signalled = False
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread only
            return
        held = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)
