"""A run's folder: starting one, and going on in one, without mixing two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from unistep.files import remove_leftovers, unwritable, write_text
from unistep.serialization import read_json, to_plain
from unistep.spelling import closest
from unistep.training.checkpoint import checkpoints
from unistep.training.run_config import RunConfig
from unistep.training.run_paths import (
    OWN_TEACHER,
    START_FOLDER,
    TEACHER_FOLDER,
    check_moved_data,
    find_own_teacher,
    may_have_moved,
    with_own_teacher,
    without_own_teacher,
)

ASKED, CONFIG = "asked.json", "config.json"
"""What was requested of a run, written before anything else, and what that was resolved to, written before its first
step."""
LOOSE = ("checkpoint_every", "sample_every", "keep", "threads", "max_bad_steps", "start_report")
"""What may change when a run goes on: it has no effect on the numbers."""


def holds_run(out: Path) -> bool:
    """Whether there is a run in ``out``, in any of its stages."""
    return any(path.is_file() for path in (out / ASKED, out / CONFIG, out / TEACHER_FOLDER / CONFIG))


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


def begun_with(out: Path) -> RunConfig | None:
    """What was requested of the run in ``out`` when it began; ``None`` where there is no run.

    Runs of earlier versions have only their resolved configuration.

    Raises:
        ValueError: If the file is damaged.
    """
    found = next((path for path in (out / ASKED, out / CONFIG) if path.is_file()), None)
    if found is None:
        return None
    config = read_json(RunConfig, found)
    return config if found.name == ASKED else without_own_teacher(config, out)


def open_run(out: Path, config: RunConfig | None, *, resume: bool) -> RunConfig:
    """Check that ``out`` can take this run, and return what is requested of it.

    Args:
        out: The run's folder.
        config: What is requested; ``None`` goes on with whatever lies in ``out``.
        resume: Whether to go on with a run that lies there.

    Returns:
        What the run was begun with, where it goes on, with a new length, if one is given, and new settings that have
        no effect on the numbers. Its data may lie elsewhere than when it began, and so may the folder itself.

    Raises:
        ValueError: If there is a run already and ``resume`` is off, if it is another run, or if nothing can be written.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder with --out")
    stored = begun_with(out)
    if stored is None:
        if config is None:
            raise ValueError(f"there is no run in {out} to go on with; give a configuration")
        if checkpoints(out / "checkpoints"):
            raise ValueError(f"{out} has checkpoints but no config.json; give another folder with --out")
        _check_writable(out)
        return with_own_teacher(config, out)
    if not resume:
        raise ValueError(
            f"{out} already holds a run of {stored.recipe!r}; add --resume to go on, or give another --out"
        )
    _check_writable(out)
    return stored if config is None else _going_on(stored, with_own_teacher(config, out), out)


def _going_on(stored: RunConfig, requested: RunConfig, out: Path) -> RunConfig:
    """What a run was begun with, brought up to what may be changed.

    Raises:
        ValueError: If anything else differs.
    """
    if "size" in requested.auto:  # it was chosen when the run began
        data = replace(requested.data, options=stored.data.options)
        requested = replace(requested, data=data, auto=stored.auto)
    for later in ("optimizer", "finish_share"):
        if later not in stored.auto:  # runs that earlier versions began never have it
            requested = replace(requested, auto=tuple(name for name in requested.auto if name != later))
    stored = find_own_teacher(stored, requested, out)
    if requested.teacher is None or stored.teacher is None:  # one that the run trains itself
        requested, stored = (
            replace(config, teacher=None) if config.teacher == OWN_TEACHER else config for config in (requested, stored)
        )
    if requested.max_steps is not None:  # a person may give a run another length than it began with
        stored = replace(stored, max_steps=requested.max_steps)
    elif requested.budget != stored.budget:
        stored = replace(stored, max_steps=None, budget=requested.budget)
    moved = may_have_moved(stored.data, requested.data)
    data = requested.data if moved else stored.data
    same = replace(stored, **{key: getattr(requested, key) for key in LOOSE}, data=data)
    requested = replace(requested, max_steps=same.max_steps, budget=same.budget)
    changed = differences(to_plain(same), to_plain(requested))
    if changed:
        raise ValueError(f"{out} holds another run, which cannot go on with changes ({'; '.join(changed[:3])})")
    if moved:
        check_moved_data(stored.data, requested.data, out)
    return same


def going_on(resolved: RunConfig, requested: RunConfig) -> RunConfig:
    """The resolved configuration of a run that goes on: every choice stays, but for what :func:`open_run` lets change.

    Args:
        resolved: What was resolved when the run began.
        requested: What :func:`open_run` returned.
    """
    changed = {key: getattr(requested, key) for key in (*LOOSE, "data", "budget")}
    if requested.teacher == OWN_TEACHER:  # which an earlier version wrote as a path
        changed["teacher"] = OWN_TEACHER
    changed["init"] = requested.init if _same_start(resolved, requested) else resolved.init
    # Where a budget in items was resolved into steps, it stays what it was resolved into.
    same_length = requested.max_steps is None and requested.budget == resolved.budget
    return replace(resolved, **changed, max_steps=resolved.max_steps if same_length else requested.max_steps)


def _same_start(resolved: RunConfig, requested: RunConfig) -> bool:
    """Whether both start from the model in the folder of a run, which may have been moved."""
    return all(c.init is not None and Path(c.init).name == START_FOLDER for c in (resolved, requested))


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
    begun = holds_run(out)
    try:
        for folder in (out, out / "checkpoints"):
            remove_leftovers(folder)
        yield
    except (ValueError, SystemExit):
        if not begun and not any((folder / CONFIG).exists() for folder in (out, out / TEACHER_FOLDER)):
            (out / ASKED).unlink(missing_ok=True)
        raise
    finally:
        lock.release()
        if not holds_run(out):
            _leave_nothing(out, made)


def _leave_nothing(out: Path, made: Sequence[Path]) -> None:
    """Take back the folders of a run that was refused before it began."""
    (out / ".lock").unlink(missing_ok=True)
    for folder in (out / "checkpoints", out / "samples", out / TEACHER_FOLDER, *made):
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


def write_requested(out: Path, config: RunConfig) -> None:
    """Write what is requested of a run, at its very start."""
    write_text(out / ASKED, json.dumps(to_plain(config), indent=2) + "\n")


def write_config(out: Path, config: RunConfig) -> None:
    """Write the resolved configuration."""
    write_text(out / CONFIG, json.dumps(to_plain(config), indent=2) + "\n")
