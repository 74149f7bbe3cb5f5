"""FLAC; C2PA puts its manifest into an ID3 tag before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.comments import find_comment, with_comment
from unistep.provenance.container import BrokenFileError, Container

_COMMENTS, _LAST = 4, 0x80


def _start(content: bytes) -> int:
    """Where FLAC begins: after an ID3 tag, whose size has seven bits in each byte."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))


def _blocks(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, and begin and end of the data, of each block of metadata."""
    at, last = _start(content) + 4, False
    while not last:
        if at + 4 > len(content):
            raise BrokenFileError("it is cut off")
        last, kind = bool(content[at] & _LAST), content[at] & ~_LAST
        end = at + 4 + int.from_bytes(content[at + 1 : at + 4])
        if end > len(content):
            raise BrokenFileError("it is cut off")
        yield kind, at + 4, end
        at = end


@final
class FLAC(Container):
    """Free lossless audio codec (RFC 9639)."""

    suffixes: ClassVar[tuple[str, ...]] = (".flac",)
    media_type: ClassVar[str | None] = "audio/flac"

    @staticmethod
    def matches(content: bytes) -> bool:
        return content[_start(content) :].startswith(b"fLaC")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        blocks = [(kind, content[begin:end]) for kind, begin, end in _blocks(content)]
        end = max(end for _, _, end in _blocks(content))
        known = next((data for kind, data in blocks if kind == _COMMENTS), b"")
        head, rest = blocks[:1], [block for block in blocks[1:] if block[0] != _COMMENTS]
        written = [*head, (_COMMENTS, with_comment(known, packet)), *rest]
        flags = [kind | (_LAST if i == len(written) - 1 else 0) for i, (kind, _) in enumerate(written)]
        joined = (bytes([flag]) + len(data).to_bytes(3) + data for flag, (_, data) in zip(flags, written, strict=True))
        return content[: _start(content) + 4] + b"".join(joined) + content[end:]

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        for kind, begin, end in _blocks(content):
            if kind == _COMMENTS:
                return find_comment(content[begin:end])
        return None
