"""WebP and WAV, which are files of RIFF chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_HAS_XMP, _HAS_ALPHA = 0x04, 0x10


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, and begin and end of the data, of each chunk."""
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if at + 8 + size > len(content):
            raise BrokenFileError("it is cut off")
        yield name, at + 8, at + 8 + size
        at += 8 + size + size % 2


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


def _with_size(content: bytes) -> bytes:
    return content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:]


def _find(name: bytes, content: bytes) -> bytes | None:
    found = None
    for kind, begin, end in _chunks(content):
        if kind == name and found is None:
            found = content[begin:end]
    return found


def _is(kind: bytes, content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == kind


def _canvas(name: bytes, data: bytes) -> tuple[int, int, bool]:
    """Width, height and whether there is transparency, of a simple file."""
    if name == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    if name == b"VP8 ":
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF, False
    raise BrokenFileError("its first chunk is no picture")


@final
class WEBP(Container):
    """WebP; a simple file becomes one of the extended format, which can hold metadata."""

    suffixes: ClassVar[tuple[str, ...]] = (".webp",)
    media_type: ClassVar[str | None] = "image/webp"

    @staticmethod
    def matches(content: bytes) -> bool:
        return _is(b"WEBP", content)

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        name, begin, end = next(_chunks(content))
        data = content[begin:end]
        if name == b"VP8X":
            content = content[:begin] + bytes([data[0] | _HAS_XMP]) + content[begin + 1 :]
        else:
            width, height, alpha = _canvas(name, data)
            header = bytes([_HAS_XMP | (_HAS_ALPHA if alpha else 0), 0, 0, 0])
            header += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            content = content[:12] + _chunk(b"VP8X", header) + content[12:]
        return _with_size(content + _chunk(b"XMP ", packet))

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _find(b"XMP ", content)


@final
class WAV(Container):
    """RIFF WAVE; the chunk is that of the XMP specification, part 3."""

    suffixes: ClassVar[tuple[str, ...]] = (".wav",)
    media_type: ClassVar[str | None] = "audio/wav"

    @staticmethod
    def matches(content: bytes) -> bool:
        return _is(b"WAVE", content)

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        padded = content + b"\0" * (len(content) % 2)
        return _with_size(padded + _chunk(b"_PMX", packet))

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _find(b"_PMX", content)
