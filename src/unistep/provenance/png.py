"""PNG: an international text chunk after the header."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY = b"XML:com.adobe.xmp"


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, and begin and end of the data, of each chunk."""
    at = len(_SIGNATURE)
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        if at + 12 + size > len(content):
            raise BrokenFileError("it is cut off")
        yield kind, at + 8, at + 8 + size
        if kind == b"IEND":
            return
        at += 12 + size
    raise BrokenFileError("it is cut off")


@final
class PNG(Container):
    """Portable network graphics (ISO/IEC 15948)."""

    suffixes: ClassVar[tuple[str, ...]] = (".png",)
    media_type: ClassVar[str | None] = "image/png"

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(_SIGNATURE)

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        _, _, end = next(_chunks(content))
        body = b"iTXt" + _KEY + b"\0\0\0\0\0" + packet  # not compressed, no language, no translated key
        chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
        return content[: end + 4] + chunk + content[end + 4 :]

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        found = None
        for kind, begin, end in _chunks(content):
            data = content[begin:end]
            if kind == b"iTXt" and data.startswith(_KEY + b"\0") and found is None:
                compressed, rest = data[len(_KEY) + 1 : len(_KEY) + 2], data[len(_KEY) + 3 :].split(b"\0", 2)
                if compressed != b"\0" or len(rest) != 3:
                    continue
                found = rest[2]
        return found
