"""Where a run finds its data and its own teacher: the places may change, what lies there may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unistep.data import DataConfig, prepare
from unistep.registry import lookup, names
from unistep.training.checkpoint import fingerprint_of_data
from unistep.training.run_config import RunConfig

TEACHER_FOLDER = "teacher"
"""Where, inside a run's folder, the teacher's own run lies."""
FINISH_FOLDER, START_FOLDER = "finish", "start"
"""Where the run that post-trains the student lies, and in its folder the student that it starts from."""
OWN_TEACHER = f"run:{TEACHER_FOLDER}/model"
"""How a configuration names the teacher in the run's own folder, wherever that folder is."""


def teacher_of(config: RunConfig, out: Path) -> str | None:
    """The name that the run's teacher is loaded by; that in the run's own folder is one of a path."""
    return str(_own_model(out)) if config.teacher == OWN_TEACHER else config.teacher


def with_own_teacher(config: RunConfig, out: Path) -> RunConfig:
    """The configuration with a teacher that lies in the run's own folder named as such, however its path is spelled."""
    if not _ends_as_own(config.teacher):
        return config
    own = Path(config.teacher or "").expanduser().resolve() == _own_model(out).resolve()
    return replace(config, teacher=OWN_TEACHER) if own else config


def without_own_teacher(config: RunConfig, out: Path) -> RunConfig:
    """What was requested, from what it was resolved to: a teacher that the run trained itself was not named."""
    own = config.teacher == OWN_TEACHER or (_ends_as_own(config.teacher) and _own_model(out).is_dir())
    return replace(config, teacher=None) if own else config


def find_own_teacher(stored: RunConfig, requested: RunConfig, out: Path) -> RunConfig:
    """What a run was begun with, its own teacher named as such also where an earlier version wrote a path, and the
    model in its folder that it starts from named as it is now.

    The folder may have been moved since, so only the end of the path counts; whether it is still that teacher, the
    hash of its weights in the checkpoints shows.
    """
    own = requested.teacher == OWN_TEACHER and _ends_as_own(stored.teacher) and _own_model(out).is_dir()
    stored = replace(stored, teacher=OWN_TEACHER) if own else stored
    return replace(stored, init=requested.init) if starts_in(requested, out) else stored


def starts_in(config: RunConfig, out: Path) -> bool:
    """Whether a run starts from the model that lies in its own folder, wherever that is."""
    return config.init is not None and Path(config.init) == out / START_FOLDER


def may_have_moved(stored: DataConfig, requested: DataConfig) -> bool:
    """Whether two configurations of data differ in nothing but the path of a folder or an archive."""
    paths = (
        stored.prefix == requested.prefix
        and requested.prefix in names("source")
        and lookup("source", requested.prefix).local
    )
    return paths and stored != requested and replace(stored, source=requested.source) == requested


def check_moved_data(stored: DataConfig, requested: DataConfig, out: Path) -> None:
    """Check that data under another path is what a run was begun with.

    Args:
        stored: The data that it was begun with.
        requested: The same options with another path.
        out: The run's folder, whose checkpoints hold the data's fingerprint; those of its own teacher do, too.

    Raises:
        ValueError: If it is other data, if there is none, or if nothing is known of the data that the run had.
    """
    if _path(stored) == _path(requested):
        return  # spelled in another way; that it has not changed is checked as for every run
    known = fingerprint_of_data(out / "checkpoints") or fingerprint_of_data(out / TEACHER_FOLDER / "checkpoints")
    if known is None:
        raise ValueError(
            f"{out} holds a run on {stored.source}, and no checkpoint that tells whether {requested.source} is the "
            "same data; give the path that it was begun with, or start another with --out"
        )
    if prepare(requested, progress=True).fingerprint != known:
        raise ValueError(
            f"{out} holds another run, on {stored.source}: {requested.source} is other data; give the same data with "
            "--data, or start another with --out"
        )


def _own_model(out: Path) -> Path:
    return out / TEACHER_FOLDER / "model"


def _ends_as_own(name: str | None) -> bool:
    return name is not None and Path(name).parts[-2:] == (TEACHER_FOLDER, "model")


def _path(data: DataConfig) -> Path:
    return Path(data.source.partition(":")[2]).expanduser().resolve()
