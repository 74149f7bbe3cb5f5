"""Numbers along training: ``metrics.jsonl`` for programs, TensorBoard for eyes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unistep.files import write_text


class MetricsLog:
    """Appends to ``metrics.jsonl`` and, where TensorBoard is installed, to its event files.

    Args:
        out: The run's folder.
        start: Step that the run goes on from; later lines, left by an interruption, are dropped.
        warnings: What does not go together in this run; the first line carries it as ``warnings``.
    """

    def __init__(self, out: Path, start: int, warnings: Sequence[str] = ()) -> None:
        self.path = out / "metrics.jsonl"
        kept = [row for row in read_metrics(out) if row["step"] <= start] if self.path.exists() else []
        if self.path.exists():
            write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in kept))
        self._warnings = [] if kept else list(warnings)
        self._file = self.path.open("ab", buffering=0)
        self._pending = b""
        self._events = _event_writer(out / "tensorboard", start)
        if self._events is not None:
            for text in self._warnings:
                self._events.add_text("warnings", text, start)

    @property
    def has_tensorboard(self) -> bool:
        """Whether event files are written."""
        return self._events is not None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write one line; numbers that are not finite become ``null``, as JSON has no others.

        Raises:
            OSError: If the disk is full; the line is kept and written with the next one.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        warnings = {"warnings": self._warnings} if self._warnings else {}
        self._warnings = []
        self._pending += (json.dumps({"step": step, **finite, **warnings}) + "\n").encode()
        self._drain()
        if self._events is not None:
            try:
                for name, value in values.items():
                    self._events.add_scalar(name, value, step)
            except OSError:
                self._events = None  # its writer has ended; metrics.jsonl goes on
                raise

    def _drain(self) -> None:
        # A disk that fills up takes a part of a line: what it took is not written again.
        while self._pending:
            self._pending = self._pending[os.write(self._file.fileno(), self._pending) :]

    def close(self) -> None:
        """Close the files.

        Raises:
            OSError: If what is left cannot be written.
        """
        try:
            self._drain()
            if self._events is not None:
                self._events.close()
        finally:
            self._file.close()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; a last line that an interruption cut short is left out."""
    rows = []
    for line in (out / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _event_writer(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the extra `track` is not installed; metrics.jsonl has the same numbers
        return None
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
