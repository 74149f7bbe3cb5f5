"""Shards: tar files of samples in the layout of webdataset, which appear whole or not at all."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unistep.files import replacing

NAME = "shard-{:06d}.tar"
"""Names of shards by their numbers."""


@dataclass(frozen=True, kw_only=True)
class ShardItem:
    """One sample of a shard: files of one name that differ in how it ends."""

    key: str
    """The name, without a dot."""
    files: Mapping[str, bytes]
    """Contents by ending, such as ``.png`` and ``.json``."""


def item_files(suffix: str, content: bytes, facts: Mapping[str, Any], label: int | None = None) -> dict[str, bytes]:
    """The files of a sample: itself, what is known of it as JSON, and its class as webdataset's ``cls``.

    Args:
        suffix: How the file of the sample ends.
        content: The file.
        facts: What is known of it.
        label: The number of its class, from 0.
    """
    files = {suffix: content, ".json": json.dumps(dict(facts), ensure_ascii=False, sort_keys=True).encode()}
    return files if label is None else {**files, ".cls": str(label).encode()}


def write_shard(path: Path, items: Iterable[ShardItem]) -> None:
    """Write a shard; the same items give the same bytes.

    Raises:
        ValueError: If it cannot be written; a :class:`~unistep.files.DiskError` on a full disk. No part of it is left.
    """
    for left in path.parent.glob(f".{path.name}.*.tmp{path.suffix}"):
        left.unlink(missing_ok=True)  # of a process that was killed
    with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard:
        for item in items:
            for suffix, content in item.files.items():
                member = tarfile.TarInfo(f"{item.key}{suffix}")
                member.size, member.mode = len(content), 0o644
                shard.addfile(member, io.BytesIO(content))


def read_shard(path: Path) -> Iterator[ShardItem]:
    """The samples of a shard, in order.

    Raises:
        ValueError: If it is no tar file.
    """
    try:
        with tarfile.open(path) as shard:
            key, files = "", dict[str, bytes]()
            for member in shard:
                name, _, ending = member.name.partition(".")
                handle = shard.extractfile(member)
                if name != key and files:
                    yield ShardItem(key=key, files=files)
                    files = {}
                key = name
                files[f".{ending}"] = b"" if handle is None else handle.read()
            if files:
                yield ShardItem(key=key, files=files)
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
