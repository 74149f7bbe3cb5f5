"""WebM: a tag at the end of the segment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

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


@final
class WEBM(Container):
    """WebM, and Matroska, of which it is a part (RFC 9559)."""

    suffixes: ClassVar[tuple[str, ...]] = (".webm", ".mkv")

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(_EBML)

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
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
                return (
                    content[:at] + (1 << 7 * width | size).to_bytes(width) + content[begin:end] + tags + content[end:]
                )
        raise BrokenFileError("it has no segment")

    @staticmethod
    def extract(content: bytes) -> bytes | None:
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
