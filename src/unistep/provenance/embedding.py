"""Adding the mark to the bytes of a file, and a signed manifest where one is wanted."""

from __future__ import annotations

from pathlib import Path

from unistep.provenance.container import Container
from unistep.provenance.mark import Provenance
from unistep.provenance.xmp import to_xmp
from unistep.registry import entries


def container_of(suffix: str) -> type[Container] | None:
    """The kind of file whose names end like this, such as ``.png``; ``None`` where such files hold no mark."""
    return next((kind for kind in entries("container").values() if suffix.lower() in kind.suffixes), None)


def check_signing(suffix: str, provenance: Provenance | None) -> None:
    """Find out before long work whether a signature that is wanted can be made.

    Raises:
        ValueError: If such files hold none, or the certificate or the key is no good.
    """
    if provenance is not None and provenance.signing is not None:
        provenance.signing.check(suffix, container_of(suffix))


def mark_content(content: bytes, suffix: str, provenance: Provenance | None) -> bytes:
    """The bytes of a file with the mark in them; pixels and samples stay the same to the bit.

    Args:
        content: The whole file.
        suffix: How its name ends, such as ``.png``; kinds of files that cannot hold a mark, such as ``.npy``, stay as
            they are.
        provenance: Where it comes from; nothing is added without.

    Raises:
        ValueError: If a signature is wanted that such files cannot hold.
    """
    check_signing(suffix, provenance)
    container = container_of(suffix)
    if provenance is None or container is None:
        return content
    marked = container.embed(content, to_xmp(provenance.mark))
    return marked if provenance.signing is None else provenance.signing.sign(marked, container, provenance.mark)


def mark_file(path: Path, provenance: Provenance | None) -> None:
    """Add the mark to a file that is whole, and that nobody reads yet.

    Raises:
        OSError: If it cannot be written.
    """
    if provenance is not None:
        path.write_bytes(mark_content(path.read_bytes(), path.suffix, provenance))
