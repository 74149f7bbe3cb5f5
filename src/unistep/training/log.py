"""Numbers along training: ``metrics.jsonl`` for programs, TensorBoard for eyes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unistep.files import write_text


class MetricsLog:
    """Appends to ``metrics.jsonl`` and, where TensorBoard is installed, to its event files.

    Args:
        out: The run's folder.
        start: Step that the run goes on from; later lines, left by an interruption, are dropped.
    """

    def __init__(self, out: Path, start: int) -> None:
        self.path = out / "metrics.jsonl"
        if self.path.exists():
            write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in read_metrics(out) if row["step"] <= start))
        self._file = self.path.open("a", encoding="utf-8")
        self._events = _event_writer(out / "tensorboard", start)

    @property
    def has_tensorboard(self) -> bool:
        """Whether event files are written."""
        return self._events is not None

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


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
