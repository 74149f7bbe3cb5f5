"""Recording what is played in a game by a process of its own, which imports little and so starts soon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Played = tuple[np.ndarray, np.ndarray]
"""Frames, uint8 ``[frames, 3, h, w]``, and the action under which each came about, float32 ``[frames, controls]``."""


def record_apart(module: str, settings: Mapping[str, Any], what: str) -> Played:
    """Have another process record an episode, since games hold the interpreter's lock, or write files where they run.

    Several threads may call this at once. The process starts from a module, not from the program that runs, so that
    no program needs a guard against being started again.

    Args:
        module: Name of the module, which calls :func:`write_recorded` when it is run.
        settings: What to record.
        what: What it is called in messages.

    Raises:
        ValueError: If the process fails; says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "played.npz"
        command = [sys.executable, "-m", module, json.dumps(settings), str(to)]
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode or not to.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{what} could not be recorded ({last})")
        with np.load(to) as found:
            return found["frames"], found["actions"]


def write_recorded(record: Callable[[dict[str, Any]], Played]) -> None:
    """What such a process does: record as its first argument says, and write to the file that the second one names."""
    settings, to = sys.argv[1:]
    frames, actions = record(json.loads(settings))
    np.savez(to, frames=frames, actions=actions)
