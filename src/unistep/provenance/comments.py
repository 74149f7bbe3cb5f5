"""Comments ``NAME=value``, in which FLAC and Ogg Vorbis keep their metadata."""

from __future__ import annotations

from unistep.provenance.container import BrokenFileError

_KEY = b"XMP="


def _read_comments(data: bytes) -> tuple[bytes, list[bytes]]:
    """Vendor and comments of a block, which may be longer."""
    at = 0

    def take() -> bytes:
        nonlocal at
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4 + size
        if at > len(data):
            raise BrokenFileError("its comments are cut off")
        return data[at - size : at]

    vendor = take()
    count = int.from_bytes(data[at : at + 4], "little")
    at += 4
    if count > len(data):
        raise BrokenFileError("its comments are cut off")
    return vendor, [take() for _ in range(count)]


def with_comment(data: bytes, packet: bytes) -> bytes:
    """A block of comments with the packet among them, in the place of one that was there.

    Raises:
        BrokenFileError: If the block is cut off.
    """
    vendor, comments = _read_comments(data) if data else (b"", [])
    kept = [comment for comment in comments if not comment.upper().startswith(_KEY)] + [_KEY + packet]
    parts = [len(part).to_bytes(4, "little") + part for part in (vendor, *kept)]
    return parts[0] + len(kept).to_bytes(4, "little") + b"".join(parts[1:])


def find_comment(data: bytes) -> bytes | None:
    """The packet in a block of comments, or ``None``.

    Raises:
        BrokenFileError: If the block is cut off.
    """
    return next((c[len(_KEY) :] for c in _read_comments(data)[1] if c.upper().startswith(_KEY)), None)
