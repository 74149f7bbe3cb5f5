"""MP4, GIF and WebM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

# MP4: a box of the XMP specification, part 3, after all others: no offset in the file changes.

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


def _embed_mp4(content: bytes, packet: bytes) -> bytes:
    body = b"uuid" + _UUID + packet
    return content + (len(body) + 4).to_bytes(4) + body


def _extract_mp4(content: bytes) -> bytes | None:
    found = None
    for kind, begin, end in _boxes(content):
        if kind == b"uuid" and content[begin : begin + 16] == _UUID:
            found = content[begin + 16 : end]
    return found


# GIF: an application extension before the trailer. The packet itself is no chain of sub-blocks; the 258 bytes after it
# lead any decoder that takes it for one to its end.

_EXTENSION = b"\x21\xff\x0bXMP DataXMP"
_MAGIC = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


def _gif_extensions(content: bytes) -> Iterator[tuple[int, int]]:
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


def _embed_gif(content: bytes, packet: bytes) -> bytes:
    at, _ = list(_gif_extensions(content))[-1]
    return content[:at] + _EXTENSION + packet + _MAGIC + content[at:]


def _extract_gif(content: bytes) -> bytes | None:
    found = None
    for begin, end in _gif_extensions(content):
        if content[begin:end].startswith(_EXTENSION):
            found = content[begin + len(_EXTENSION) : end - len(_MAGIC)]
    return found


# WebM: a tag at the end of the segment.

_EBML, _SEGMENT, _TAGS = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067"), bytes.fromhex("1254c367")
_TAG, _TARGETS, _SIMPLE = bytes.fromhex("7373"), bytes.fromhex("63c0"), bytes.fromhex("67c8")
_NAME, _STRING = bytes.fromhex("45a3"), bytes.fromhex("4487")


def _element(identifier: bytes, data: bytes) -> bytes:
    return identifier + (1 << 56 | len(data)).to_bytes(8) + data


def _number(content: bytes, at: int, *, marked: bool) -> tuple[int, int]:
    """A number of variable length, with its mark or without, and how many bytes it has."""
    if at >= len(content) or content[at] == 0:
        raise BrokenFileError("it is cut off")
    width = 9 - content[at].bit_length()
    value = int.from_bytes(content[at : at + width])
    return value if marked else value & (1 << 7 * width) - 1, width


def _elements(content: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Identifier, and begin and end of the data, of each element; one of unknown size ends where the file does."""
    at = begin
    while at < end:
        _, width = _number(content, at, marked=True)
        identifier = content[at : at + width]
        size, digits = _number(content, at + width, marked=False)
        start = at + width + digits
        stop = end if size == (1 << 7 * digits) - 1 else start + size
        if stop > end:
            raise BrokenFileError("it is cut off")
        yield identifier, start, stop
        at = stop


def _embed_webm(content: bytes, packet: bytes) -> bytes:
    simple = _element(_SIMPLE, _element(_NAME, b"XMP") + _element(_STRING, packet))
    tags = _element(_TAGS, _element(_TAG, _element(_TARGETS, b"") + simple))
    for identifier, begin, end in _elements(content, 0, len(content)):
        if identifier == _SEGMENT:
            at = content.rindex(_SEGMENT, 0, begin) + 4
            width = begin - at
            unknown = (1 << 7 * width) - 1
            known = _number(content, at, marked=False)[0]
            size = known if known == unknown else known + len(tags)
            if known != unknown and size >= unknown:
                raise BrokenFileError("its segment cannot grow")
            return content[:at] + (1 << 7 * width | size).to_bytes(width) + content[begin:end] + tags + content[end:]
    raise BrokenFileError("it has no segment")


def _extract_webm(content: bytes) -> bytes | None:
    path = (_SEGMENT, _TAGS, _TAG, _SIMPLE)

    def inside(begin: int, end: int, depth: int = 0) -> Iterator[tuple[int, int]]:
        for identifier, start, stop in _elements(content, begin, end):
            if identifier != path[depth]:
                continue
            if depth + 1 < len(path):
                yield from inside(start, stop, depth + 1)
            else:
                yield start, stop

    for begin, end in inside(0, len(content)):
        parts = {identifier: content[start:stop] for identifier, start, stop in _elements(content, begin, end)}
        if parts.get(_NAME) == b"XMP":
            return parts.get(_STRING)
    return None


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
        return _embed_mp4(content, packet)

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _extract_mp4(content)


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
        return _embed_gif(content, packet)

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _extract_gif(content)


@final
class WEBM(Container):
    """WebM (RFC 9559)."""

    suffixes: ClassVar[tuple[str, ...]] = (".webm",)

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(_EBML)

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        return _embed_webm(content, packet)

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _extract_webm(content)
