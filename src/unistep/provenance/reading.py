"""What a file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from unistep.provenance.container import BrokenFileError
from unistep.provenance.mark import Mark
from unistep.provenance.signing import Manifest, read_manifest
from unistep.provenance.xmp import from_xmp
from unistep.registry import entries


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found in a file."""

    kind: str | None
    """The kind of file, such as ``png``, by its first bytes; ``None`` for an unknown one."""
    mark: Mark | None = None
    """The mark in its metadata."""
    manifest: Manifest | None = None
    """Its C2PA manifest."""
    unread: str = ""
    """What could not be looked at, in words: a manifest without the library for it."""

    @property
    def generated(self) -> bool:
        """Whether anything says that a model made it."""
        return any(found is not None and found.generated for found in (self.mark, self.manifest))


def read_content(content: bytes, trust: str | None = None) -> Finding:
    """What the bytes of a file say.

    Args:
        content: The whole file.
        trust: Certificates in PEM that the signer of a manifest may go back to.

    Raises:
        BrokenFileError: If it is damaged.
    """
    known = entries("container")
    kind = next((name for name, container in known.items() if container.matches(content)), None)
    if kind is None:
        return Finding(kind=None)
    container = known[kind]
    packet = container.extract(content)
    try:
        mark = None if packet is None else from_xmp(packet)
    except ValueError as error:
        raise BrokenFileError(str(error)) from None
    if container.media_type is None:
        return Finding(kind=kind, mark=mark)
    if find_spec("c2pa") is None:
        unread = "a C2PA manifest, which needs pip install 'unistep[c2pa]' to be read" if b"c2pa" in content else ""
        return Finding(kind=kind, mark=mark, unread=unread)
    return Finding(kind=kind, mark=mark, manifest=read_manifest(content, container.media_type, trust))


def read_file(path: str | Path, trust: str | None = None) -> Finding:
    """What a file says; see :func:`read_content`.

    Raises:
        ValueError: If it cannot be read, naming it and the reason.
    """
    try:
        return read_content(Path(path).expanduser().read_bytes(), trust)
    except BrokenFileError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
