"""What a terminal says of itself when it is asked: whether it shows pictures, and how large its characters are."""

from __future__ import annotations

import os
import re
import select
import time
from dataclasses import dataclass
from typing import final

QUESTIONS = "\033[16t\033[14t\033[c"
"""The size of a character in pixels, that of all of them, and the device attributes, which every terminal answers."""
TIMEOUT = 0.3
"""Seconds after which a terminal that says nothing is taken for one that shows no pictures."""
SIXEL = 4
"""The device attribute of a terminal that shows sixel graphics."""

_ATTRIBUTES = re.compile(rb"\033\[\?([\d;]*)c")
_SIZES = re.compile(rb"\033\[([46]);(\d+);(\d+)t")


@final
@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a terminal said."""

    sixel: bool
    """Whether it shows sixel graphics."""
    character: tuple[int, int] | None
    """Height and width of a character in pixels, where it is known."""
    typed: bytes
    """What else came meanwhile: keys."""


def understood(sent: bytes, size: tuple[int, int]) -> Answers:
    """What the bytes that came from a terminal say.

    Args:
        sent: All that came.
        size: Rows and columns of characters.
    """
    found = _ATTRIBUTES.search(sent)
    attributes = found[1].split(b";")[1:] if found else []  # the first is the kind of terminal
    sizes = {int(kind): (int(height), int(width)) for kind, height, width in _SIZES.findall(sent)}
    character = sizes.get(6)
    if character is None and 4 in sizes and min(size) > 0:
        character = sizes[4][0] // size[0], sizes[4][1] // size[1]
    known = character if character is not None and min(character) > 0 else None
    typed = _SIZES.sub(b"", _ATTRIBUTES.sub(b"", sent))
    return Answers(sixel=str(SIXEL).encode() in attributes, character=known, typed=typed)


def ask(source: int, target: int, size: tuple[int, int], *, timeout: float = TIMEOUT) -> Answers:
    """Ask a terminal whose keys come at once and unseen.

    Args:
        source: File descriptor of its keys.
        target: File descriptor of its screen.
        size: Rows and columns of characters.
        timeout: Seconds to wait for its answer.

    Raises:
        OSError: If the terminal is gone.
    """
    os.write(target, QUESTIONS.encode())
    sent, end = b"", time.monotonic() + timeout
    while (left := end - time.monotonic()) > 0 and not _ATTRIBUTES.search(sent):
        ready, _, _ = select.select([source], [], [], left)
        if ready:
            more = os.read(source, 4096)
            if not more:
                raise OSError("the terminal is closed")
            sent += more
    return understood(sent, size)
