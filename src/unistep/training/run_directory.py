"""A run's folder: starting one, and going on in one, without mixing two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from unistep.files import remove_leftovers, unwritable, write_text
from unistep.generation.model_config import ModelConfig
from unistep.serialization import read_json, to_plain
from unistep.spelling import closest
from unistep.training.checkpoint import checkpoints
from unistep.training.run_config import RunConfig
from unistep.training.run_paths import (
    TEACHER_FOLDER,
    check_moved_data,
    find_own_teacher,
    may_have_moved,
    with_own_teacher,
)

LOOSE = ("checkpoint_every", "sample_every", "keep", "threads", "max_bad_steps")
"""What may change when a run goes on: it has no effect on the numbers."""


def holds_run(out: Path) -> bool:
    """Whether there is a run in ``out``, of whose two stages the first may be under way."""
    return any((folder / "config.json").is_file() for folder in (out, out / TEACHER_FOLDER))


def no_run_yet(out: Path) -> str:
    """A line that says that there is no run in ``out`` to go on with; names the nearest folder beside it with one."""
    try:
        beside = [folder.name for folder in out.absolute().parent.iterdir() if holds_run(folder)]
    except OSError:
        beside = []
    close = closest(out.absolute().name, beside)
    meant = f" (did you mean {str(out.parent / close)!r}?)" if close else ""
    return f"there is no run in {out} to go on with{meant}; a new one begins"


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
        ``config``, with the number of steps that was settled when the run began, unless ``config`` has one. Its data
        may lie elsewhere than when the run began, and so may the folder itself, with its own teacher.

    Raises:
        ValueError: If there is a run already and ``resume`` is off, if it is another run, or if nothing can be written.
    """
    config = with_own_teacher(config, out)
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
    if config.max_steps is not None:  # a person may give a run another length than it began with
        stored = replace(stored, max_steps=config.max_steps)
        config = replace(config, budget=stored.budget)
    elif config.budget == stored.budget:
        config = replace(config, max_steps=stored.max_steps)
    stored = find_own_teacher(stored, config, out)
    moved = may_have_moved(stored.data, config.data)
    same = replace(stored, **{key: getattr(config, key) for key in LOOSE}, data=config.data if moved else stored.data)
    config = replace(config, model=_with_data_of(config.model, stored.model))
    changed = differences(to_plain(same), to_plain(config))
    if changed:
        raise ValueError(f"{out} holds another run, which cannot go on with changes ({'; '.join(changed[:3])})")
    if moved:
        check_moved_data(stored.data, config.data, out)
    return same


def _with_data_of(asked: ModelConfig, stored: ModelConfig) -> ModelConfig:
    """What was asked for, with all that the data and the objective filled in when the run began."""
    return replace(asked, modality=stored.modality, codec=stored.codec, fields=stored.fields).fitted()


def missing_folders(out: Path) -> list[Path]:
    """The folders on the way to ``out`` that do not exist yet, innermost first."""
    return [folder for folder in (out, *out.parents) if not folder.exists()]


@contextmanager
def run_lock(out: Path, made: Sequence[Path] = ()) -> Iterator[None]:
    """A run's folder for this process alone; freed when the process ends, however it ends.

    Args:
        out: The folder.
        made: Folders that were made for this run, innermost first; taken back, if empty, where it is refused.

    Raises:
        ValueError: If another process is training in it.
    """
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process is training in {out}; wait for it, or give another --out") from None
    except NotImplementedError:
        pass  # a file system without locks; all other guards hold there too
    try:
        for folder in (out, out / "checkpoints"):
            remove_leftovers(folder)
        yield
    finally:
        lock.release()
        if not (out / "config.json").exists():
            _leave_nothing(out, made)


def _leave_nothing(out: Path, made: Sequence[Path]) -> None:
    """Take back the places of a run that was refused before it began."""
    (out / ".lock").unlink(missing_ok=True)
    for folder in (out / "checkpoints", out / "samples", *made):
        with suppress(OSError):  # only an empty folder goes
            folder.rmdir()


def _check_writable(out: Path) -> None:
    for folder in (out, out / "checkpoints", out / "samples"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            line = f"cannot write {folder}: {error.strerror}; give another folder with --out"
            raise unwritable(line, error) from None
        try:
            write_text(folder / ".writable", "")
        except ValueError as error:
            raise type(error)(f"{error}; give another folder with --out") from None
        (folder / ".writable").unlink()


def write_config(out: Path, config: RunConfig) -> None:
    """Write the resolved configuration."""
    write_text(out / "config.json", json.dumps(to_plain(config), indent=2) + "\n")
