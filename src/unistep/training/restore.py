"""Going back to the newest checkpoint of a run that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from unistep.training.checkpoint import TrainingState, checkpoints, read_checkpoint
from unistep.training.display import show_line
from unistep.training.parallel import World


def restore(
    state: TrainingState,
    out: Path,
    identity: Mapping[str, str],
    described: Mapping[str, str],
    world: World,
    console: Console,
) -> dict[str, Any]:
    """Put the state of the newest checkpoint that can be read back in place.

    Args:
        state: What is trained.
        out: The run's folder.
        identity: Hashes that must be those of the checkpoint, by name.
        described: What each of them stands for, in messages.
        world: The processes, which restore together or not at all.
        console: Where to report.

    Returns:
        The checkpoint's counters; empty where there is no checkpoint at all.

    Raises:
        ValueError: If there are checkpoints and none can be read, or if what the run depends on has changed.
    """
    found, problem = checkpoints(out / "checkpoints"), ""
    for folder in reversed(found):
        try:
            snapshot, problem = read_checkpoint(folder), ""
        except ValueError as error:
            snapshot, problem = None, str(error)
        if world.any_rank(snapshot is None) or snapshot is None:
            line = f"checkpoint {folder.name} cannot be read, going back to the one before it ({problem})"
            show_line(console, line, "yellow")
            continue
        for name, value in identity.items():
            if snapshot.progress.get(name, value) != value:
                raise ValueError(
                    f"the {described[name]} has changed since the run in {out} began; start another with --out"
                )
        try:
            state.restore(snapshot)
        except ValueError as error:
            raise ValueError(f"{folder} cannot be used: {error}; start another run with --out") from None
        return snapshot.progress
    if found:
        raise ValueError(f"no checkpoint in {out} can be read ({problem}); start another run with --out")
    return {}
