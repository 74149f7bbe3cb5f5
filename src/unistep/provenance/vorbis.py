"""FLAC and Ogg Vorbis, whose metadata are comments ``NAME=value``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_KEY = b"XMP="
_COMMENTS, _LAST = 4, 0x80
_VORBIS = b"\x03vorbis"


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


def _with_comment(data: bytes, packet: bytes) -> bytes:
    vendor, comments = _read_comments(data) if data else (b"", [])
    kept = [comment for comment in comments if not comment.upper().startswith(_KEY)] + [_KEY + packet]
    parts = [len(part).to_bytes(4, "little") + part for part in (vendor, *kept)]
    return parts[0] + len(kept).to_bytes(4, "little") + b"".join(parts[1:])


def _find_comment(data: bytes) -> bytes | None:
    return next((c[len(_KEY) :] for c in _read_comments(data)[1] if c.upper().startswith(_KEY)), None)


# FLAC; C2PA puts its manifest into an ID3 tag before it.


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


def _embed_flac(content: bytes, packet: bytes) -> bytes:
    blocks = [(kind, content[begin:end]) for kind, begin, end in _blocks(content)]
    end = max(end for _, _, end in _blocks(content))
    known = next((data for kind, data in blocks if kind == _COMMENTS), b"")
    head, rest = blocks[:1], [block for block in blocks[1:] if block[0] != _COMMENTS]
    written = [*head, (_COMMENTS, _with_comment(known, packet)), *rest]
    flags = [kind | (_LAST if i == len(written) - 1 else 0) for i, (kind, _) in enumerate(written)]
    joined = (bytes([flag]) + len(data).to_bytes(3) + data for flag, (_, data) in zip(flags, written, strict=True))
    return content[: _start(content) + 4] + b"".join(joined) + content[end:]


def _extract_flac(content: bytes) -> bytes | None:
    for kind, begin, end in _blocks(content):
        if kind == _COMMENTS:
            return _find_comment(content[begin:end])
    return None


# Ogg: pages of segments; the second packet of a Vorbis stream has the comments, the third the setup.


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


def _embed_ogg(content: bytes, packet: bytes) -> bytes:
    first, (comments, setup), end, replaced = _headers(content)
    changed = _VORBIS + _with_comment(comments[len(_VORBIS) :], packet) + b"\x01"
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


def _segments(packet: bytes) -> list[bytes]:
    """A packet in pieces of 255 bytes, the last of which is shorter."""
    return [packet[i : i + 255] for i in range(0, len(packet) + 1, 255)]


def _extract_ogg(content: bytes) -> bytes | None:
    _, (comments, _), _, _ = _headers(content)
    return _find_comment(comments[len(_VORBIS) :])


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
class FLAC(Container):
    """Free lossless audio codec (RFC 9639)."""

    suffixes: ClassVar[tuple[str, ...]] = (".flac",)
    media_type: ClassVar[str | None] = "audio/flac"

    @staticmethod
    def matches(content: bytes) -> bool:
        return content[_start(content) :].startswith(b"fLaC")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        return _embed_flac(content, packet)

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _extract_flac(content)


@final
class OGG(Container):
    """Vorbis in Ogg (RFC 3533)."""

    suffixes: ClassVar[tuple[str, ...]] = (".ogg",)

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(b"OggS")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        return _embed_ogg(content, packet)

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return _extract_ogg(content)
