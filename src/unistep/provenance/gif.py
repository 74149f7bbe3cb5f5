"""GIF: an application extension before the trailer.

The packet itself is no chain of sub-blocks; the 258 bytes after it lead any decoder that takes it for one to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_EXTENSION = b"\x21\xff\x0bXMP DataXMP"
_MAGIC = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


def _extensions(content: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each extension; the last pair is the trailer's place."""

    def table(flags: int) -> int:
        return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0

    def skip(at: int) -> int:
        while at < len(content) and content[at]:
            at += content[at] + 1
        return at + 1

    if len(content) < 13:
        raise BrokenFileError("it is cut off")
    at = 13 + table(content[10])
    while at < len(content):
        kind = content[at]
        if kind == 0x3B:
            yield at, at
            return
        if kind == 0x21:
            end = skip(at + 2)
            yield at, end
        elif kind == 0x2C and at + 10 < len(content):
            end = skip(at + 11 + table(content[at + 9]))
        else:
            break
        at = end
    raise BrokenFileError("it is cut off")


@final
class GIF(Container):
    """Graphics interchange format."""

    suffixes: ClassVar[tuple[str, ...]] = (".gif",)
    media_type: ClassVar[str | None] = "image/gif"

    @staticmethod
    def matches(content: bytes) -> bool:
        return content[:6] in (b"GIF87a", b"GIF89a")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        at, _ = list(_extensions(content))[-1]
        return content[:at] + _EXTENSION + packet + _MAGIC + content[at:]

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        found = None
        for begin, end in _extensions(content):
            if content[begin:end].startswith(_EXTENSION):
                found = content[begin + len(_EXTENSION) : end - len(_MAGIC)]
        return found
