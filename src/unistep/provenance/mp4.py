"""MP4: a box of the XMP specification, part 3, after all others: no offset in the file changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def _boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, and begin and end of the data, of each box."""
    at = 0
    while at < len(content):
        size, kind, head = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16]), 16
        end = len(content) if size == 0 else at + size
        if end > len(content) or end < at + head:
            raise BrokenFileError("it is cut off")
        yield kind, at + head, end
        at = end


@final
class MP4(Container):
    """ISO base media (ISO/IEC 14496-12)."""

    suffixes: ClassVar[tuple[str, ...]] = (".mp4",)
    media_type: ClassVar[str | None] = "video/mp4"

    @staticmethod
    def matches(content: bytes) -> bool:
        return content[4:8] == b"ftyp"

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        body = b"uuid" + _UUID + packet
        return content + (len(body) + 4).to_bytes(4) + body

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        found = None
        for kind, begin, end in _boxes(content):
            if kind == b"uuid" and content[begin : begin + 16] == _UUID:
                found = content[begin + 16 : end]
        return found
