"""NumPy's archives, which are zip files: the comment at their end."""

from __future__ import annotations

from typing import ClassVar, final

from unistep.provenance.container import BrokenFileError, Container

_DIRECTORY_END = b"PK\x05\x06"
_FIXED = 22  # bytes of that record, the last two of which are the length of the comment


def _record(content: bytes) -> int:
    """Where the record at the end begins: the last place from which a comment reaches the end of the file."""
    at = content.rfind(_DIRECTORY_END)
    while at >= 0:
        if at + _FIXED + int.from_bytes(content[at + 20 : at + 22], "little") == len(content):
            return at
        at = content.rfind(_DIRECTORY_END, 0, at)
    raise BrokenFileError("it is cut off")


@final
class NPZ(Container):
    """NumPy's archives of arrays."""

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    @staticmethod
    def matches(content: bytes) -> bool:
        return content.startswith(b"PK\x03\x04")

    @staticmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        at = _record(content)
        return content[: at + 20] + len(packet).to_bytes(2, "little") + packet

    @staticmethod
    def extract(content: bytes) -> bytes | None:
        return content[_record(content) + _FIXED :] or None
