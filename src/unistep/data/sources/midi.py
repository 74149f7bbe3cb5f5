"""Standard MIDI files, written."""

from __future__ import annotations

import struct


def whole_file(events: bytes) -> bytes:
    """A standard MIDI file of one track with these events; a tick is a millisecond."""
    tempo = b"\x00\xff\x51\x03" + (500_000).to_bytes(3, "big")  # half a second for 500 ticks
    track = tempo + events + b"\xff\x2f\x00"
    return struct.pack(">4sIHHH", b"MThd", 6, 0, 1, 500) + struct.pack(">4sI", b"MTrk", len(track)) + track


def ticks(number: int) -> bytes:
    """Milliseconds since the last event, in MIDI's variable length: seven bits a byte, all but the last marked."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))
