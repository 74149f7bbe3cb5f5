"""What a kind of file offers for the mark: to add an XMP packet to its bytes, and to find one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar


class BrokenFileError(ValueError):
    """A file is not what its beginning says."""


class Container(ABC):
    """A kind of file, registered as a ``container``; nothing of it is ever instantiated."""

    suffixes: ClassVar[tuple[str, ...]]
    """How names of such files end, in lower case with the dot."""
    media_type: ClassVar[str | None] = None
    """The type by which a C2PA library knows such files; ``None`` where it does not."""

    @staticmethod
    @abstractmethod
    def matches(content: bytes) -> bool:
        """Whether bytes begin like such a file."""

    @staticmethod
    @abstractmethod
    def embed(content: bytes, packet: bytes) -> bytes:
        """A whole file with the packet in it; what is seen or heard stays the same to the bit."""

    @staticmethod
    @abstractmethod
    def extract(content: bytes) -> bytes | None:
        """The packet of a file, or ``None``.

        Raises:
            BrokenFileError: If the file is cut off or damaged.
        """
