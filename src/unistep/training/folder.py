"""A run's folder: starting one, and going on in one, without mixing two runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from unistep.files import write_text
from unistep.serialization import read_json, to_plain
from unistep.training.checkpoint import checkpoints
from unistep.training.config import RunConfig

LOOSE = ("checkpoint_every", "sample_every", "keep", "threads")
"""What may change when a run goes on: it has no effect on the numbers."""


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """Keys at which two plain configurations differ, as ``key: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in {**old, **new}
            for line in differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        ]
    return [] if old == new else [f"{prefix}: {old!r} -> {new!r}"]


def open_run(out: Path, config: RunConfig, *, resume: bool) -> RunConfig:
    """Check that ``out`` can take this run, and return the configuration to go on with.

    Args:
        out: The run's folder.
        config: What was asked for.
        resume: Whether to go on with a run that lies there.

    Returns:
        ``config``, with the number of steps that was settled when the run began.

    Raises:
        ValueError: If there is a run already and ``resume`` is off, if it is another run, or if nothing can be written.
    """
    stored_path = out / "config.json"
    if not stored_path.exists():
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file; give a folder with --out")
        if checkpoints(out / "checkpoints"):
            raise ValueError(f"{out} has checkpoints but no config.json; give another folder with --out")
        _check_writable(out)
        return config
    stored = read_json(RunConfig, stored_path)
    if not resume:
        raise ValueError(
            f"{out} already holds a run of {stored.recipe!r}; add --resume to go on, or give another --out"
        )
    _check_writable(out)
    same = replace(stored, **{key: getattr(config, key) for key in LOOSE})
    if config.max_steps is None and config.budget == stored.budget:
        config = replace(config, max_steps=stored.max_steps)
    # What the data filled into the model is compared too, once it is filled in; here, what was asked for.
    config = replace(config, model=stored.model) if config.recipe == stored.recipe else config
    changed = differences(to_plain(same), to_plain(config))
    if changed:
        raise ValueError(f"{out} holds another run, which cannot go on with changes ({'; '.join(changed[:3])})")
    return same


def _check_writable(out: Path) -> None:
    for folder in (out, out / "checkpoints", out / "samples"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write {folder}: {error.strerror}; give another folder with --out") from None
    write_text(out / ".writable", "")
    (out / ".writable").unlink()


def write_config(out: Path, config: RunConfig) -> None:
    """Write the resolved configuration."""
    write_text(out / "config.json", json.dumps(to_plain(config), indent=2) + "\n")
