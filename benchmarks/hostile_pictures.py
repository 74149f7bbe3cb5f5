"""Pictures that are sent to a server: some right, and some that are bombs, broken or something else."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, kind: int = 0, rows: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG file that says what it likes."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


_ROWS = zlib.compress(bytes(16_100_000), 9)
_NOTES = chunk(b"zTXt", b"x\x00\x00" + zlib.compress(bytes(50_000_000), 9))
_PROFILE = chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(50_000_000), 9))


def _right(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """A picture of one colour."""
    from PIL import Image

    content = io.BytesIO()
    Image.new(mode, size).save(content, kind)
    return content.getvalue()


RIGHT = (
    *(_right("PNG", mode, (28, 28)) for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "I;16")),
    *(_right("PNG", "L", size) for size in ((1, 1), (1, 4000), (4000, 1), (300, 200))),
    *(_right("JPEG", mode, (64, 48)) for mode in ("RGB", "CMYK", "L")),
    _right("WEBP", "RGB", (64, 48)),
)
"""Pictures that can be read."""
WRONG = (
    *(png(50_000, 50_000, rows=_ROWS), png(4_000, 4_000, rows=_ROWS), png(3_999, 3_999, depth=16, rows=_ROWS)),
    *(png(0, 0), png(2**31 - 1, 2**31 - 1), png(28, 28, depth=3), png(28, 28, kind=9), png(28, 28, more=_NOTES)),
    *(
        png(28, 28, more=_PROFILE),
        png(28, 28, rows=zlib.compress(bytes(10_000_000))),
        b"",
        b"x",
        b"<svg/>",
        b"%PDF-1.7",
    ),
    *(b"GIF89a" + bytes(100), b"BM" + bytes(100), b"II*\x00" + bytes(100), b"PK\x03\x04", b"RIFF" + bytes(50)),
    *(b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(100), b"\xff\xd8\xff\xe0" + bytes(200)),
)
"""Bombs, and files that only say that they are pictures."""


def picture(random: Random) -> bytes:
    """A file that is a picture, was one, or says that it is."""
    content = random.choice(RIGHT)
    at = random.randrange(2, len(content))
    broken = (content[:at], content + bytes(1000), content[:at] + random.randbytes(4) + content[at + 4 :])
    return random.choice((content, content, random.choice(broken), random.choice(WRONG), random.randbytes(3000)))
