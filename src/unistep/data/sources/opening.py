"""Which source a name stands for."""

from __future__ import annotations

from pathlib import Path

from unistep import registry
from unistep.data.options import DataConfig
from unistep.data.sources.base import Source
from unistep.spelling import closest

_SHOWN = 80  # characters of a wrong name that a message repeats


def open_source(config: DataConfig, downloads: Path) -> Source:
    """The source that ``config.source`` names.

    Args:
        config: Names the source and the split.
        downloads: Folder for files that a source has to download.

    Raises:
        ValueError: For an unknown name, with the nearest valid one, or a split that the source does not have.
    """
    prefix, _, rest = config.source.partition(":")
    if prefix not in registry.names("source"):
        raise ValueError(_unknown(config.source))
    kind: type[Source] = registry.lookup("source", prefix)
    return kind.named(rest, config, downloads)


def _unknown(source: str) -> str:
    shown = repr(source if len(source) <= _SHOWN else f"{source[:_SHOWN]}…")
    kinds: dict[str, type[Source]] = registry.entries("source")
    known = ", ".join(kind.usage for kind in kinds.values())
    if not source.strip():
        return f"the data source is empty; it must be one of {known}"
    if _is_folder(source):
        return f"unknown data source {shown}; did you mean 'folder:{source}'? (one of {known})"
    if source.lower().endswith(".npz"):
        return f"unknown data source {shown}; did you mean 'npz:{source}'? (one of {known})"
    prefix, colon, rest = source.partition(":")
    close = closest(prefix + colon, [f"{name}:" if kind.local else name for name, kind in kinds.items()])
    hint = (
        f"; did you mean {close + (rest if close.endswith(':') else '')!r}?" if close and len(source) <= _SHOWN else ""
    )
    looks = "; a folder of that name does not exist here, folder:PATH takes one" if "/" in source and not hint else ""
    return f"unknown data source {shown}; it must be one of {known}{hint}{looks}"


def _is_folder(text: str) -> bool:
    try:
        return Path(text).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, or no such home folder
        return False
