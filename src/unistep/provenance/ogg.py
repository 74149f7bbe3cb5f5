"""Ogg: pages of segments; the second packet of a Vorbis stream has the comments, the third the setup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.comments import find_comment, with_comment
from unistep.provenance.container import BrokenFileError, Container

_VORBIS = b"\x03vorbis"


def _pages(content: bytes) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Begin, sizes of segments, body and end of each page."""
    at = 0
    while at < len(content):
        if content[at : at + 4] != b"OggS" or at + 27 > len(content):
            raise BrokenFileError("it is cut off")
        sizes = content[at + 27 : at + 27 + content[at + 26]]
        begin = at + 27 + len(sizes)
        end = begin + sum(sizes)
        if end > len(content):
            raise BrokenFileError("it is cut off")
        yield at, sizes, content[begin:end], end
        at = end


def _headers(content: bytes) -> tuple[int, list[bytes], int, int]:
    """End of the first page, the second and third packet, the end of their pages, and the number of those pages."""
    packets, packet, first, pages = [], b"", 0, 0
    for at, sizes, body, end in _pages(content):
        if at == 0:
            first = end
            continue
        pages += 1
        taken = 0
        for size in sizes:
            packet += body[taken : taken + size]
            taken += size
            if size < 255:
                packets.append(packet)
                packet = b""
        if len(packets) == 2 and packets[0].startswith(_VORBIS) and not packet:
            return first, packets, end, pages
        if len(packets) > 2:
            break
    raise BrokenFileError("it is no Ogg Vorbis")


def _segments(packet: bytes) -> list[bytes]:
    """A packet in pieces of 255 bytes, the last of which is shorter."""
    return [packet[i : i + 255] for i in range(0, len(packet) + 1, 255)]


def _table() -> list[int]:
    """Of a cyclic redundancy check with the polynomial 0x04c11db7, from the highest bit."""
    found = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        found.append(value)
    return found


_CRC = _table()


def _with_crc(page: bytes) -> bytes:
    """A page with the check of its bytes, whose own place counts as zeros."""
    page = page[:22] + bytes(4) + page[26:]
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[value >> 24 ^ byte]
    return page[:22] + value.to_bytes(4, "little") + page[26:]


@final
class OGG(Container):
    """Vorbis in Ogg (RFC 3533)."""

    suffixes: ClassVar[tuple[str, ...]] = (".ogg",)

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(b"OggS")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        first, (comments, setup), end, replaced = _headers(content)
        changed = _VORBIS + with_comment(comments[len(_VORBIS) :], packet) + b"\x01"
        serial = content[14:18]
        segments = [piece for whole in (changed, setup) for piece in _segments(whole)]
        groups = [segments[i : i + 255] for i in range(0, len(segments), 255)]
        made = []
        for number, group in enumerate(groups, start=1):
            continued = number > 1 and len(groups[number - 2][-1]) == 255
            header = b"OggS\0" + bytes([int(continued)]) + bytes(8) + serial + number.to_bytes(4, "little") + bytes(4)
            made.append(_with_crc(header + bytes([len(group)]) + bytes(map(len, group)) + b"".join(group)))
        rest = content[end:]
        shift = len(made) - replaced
        if shift:
            moved = []
            for at, _, _, stop in _pages(rest):
                page = rest[at:stop]
                number = int.from_bytes(page[18:22], "little") + shift
                moved.append(_with_crc(page[:18] + number.to_bytes(4, "little") + bytes(4) + page[26:]))
            rest = b"".join(moved)
        return content[:first] + b"".join(made) + rest

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        _, (comments, _), _, _ = _headers(content)
        return find_comment(comments[len(_VORBIS) :])
