"""JPEG: an APP1 segment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_KEY = b"http://ns.adobe.com/xap/1.0/\0"
_APP0, _APP1, _SCAN, _END = 0xE0, 0xE1, 0xDA, 0xD9


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, and begin and end, of each segment before the first scan."""
    at = 2
    while True:
        if at + 4 > len(content) or content[at] != 0xFF:
            raise BrokenFileError("it is cut off")
        marker = content[at + 1]
        if marker in (_SCAN, _END):
            return
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if end > len(content):
            raise BrokenFileError("it is cut off")
        yield marker, at, end
        at = end


@final
class JPEG(Container):
    """JPEG interchange format (ISO/IEC 10918)."""

    suffixes: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg")
    media_type: ClassVar[str | None] = "image/jpeg"

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(b"\xff\xd8\xff")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        at = 2
        for marker, _, end in _segments(content):
            if marker != _APP0:
                break
            at = end
        body = _KEY + packet
        return content[:at] + bytes([0xFF, _APP1]) + (len(body) + 2).to_bytes(2) + body + content[at:]

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        for marker, begin, end in _segments(content):
            if marker == _APP1 and content[begin + 4 : end].startswith(_KEY):
                return content[begin + 4 + len(_KEY) : end]
        return None
