"""Frames of a video at a constant rate: found by seeking, decoded no further than needed, each shown until the next."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from unistep.modalities.video_reading import OpenVideo, UnusableVideoError, packets_of, reason

_KEPT = 1024  # presentation times that are remembered at most
_REORDERED = 32  # packets, twice as many as codecs put in another order, after which no decoding time is to come
_BACK = (0, 1, 8, 64)  # seconds before the first time in which further attempts look for a key frame


@dataclass(frozen=True, kw_only=True)
class FrameTimes:
    """Times at a constant rate on a video's own clock."""

    start: Fraction
    """The first one, in seconds."""
    fps: Fraction
    """How many there are in a second."""
    count: int
    """How many there are."""
    time_base: Fraction
    """Seconds of one tick of the clock."""

    def before(self, tick: int) -> int:
        """How many lie before a frame that begins at ``tick``.

        A frame that begins within half a tick of a time is shown at it, as clocks round; those of GIFs to 10 ms.
        """
        rounding = min(self.time_base / 2, Fraction(1, 200))
        found = math.ceil((tick * self.time_base - rounding - self.start) * self.fps)
        return min(self.count, max(0, found))


@dataclass(kw_only=True, eq=False)
class Losses:
    """What could not be decoded, counted while frames are read."""

    packets: int = 0
    """Packets that were skipped."""
    first: str = ""
    """What was wrong with the first of them."""
    notes: list[str] = field(default_factory=list)
    """Remarks for a summary; complete once all frames are read."""

    def add(self, error: Exception) -> None:
        """Count a packet."""
        self.first = self.first or reason(error)
        self.packets += 1
        some = f"{self.packets:,} corrupt packet{'s' if self.packets > 1 else ''} skipped"
        self.notes[:] = [*(note for note in self.notes if not note.endswith("skipped")), some]


def frames_at(video: OpenVideo, times: FrameTimes, losses: Losses, *, seek: bool = False) -> Iterator[Any]:
    """The frame that is shown at each time: the last that began by then; before the first one, the first.

    Frames that are shown at none of the times are decoded only where others need them. Corrupt packets are skipped, and
    the frame before is shown on; so is the last frame of the file.

    Args:
        video: The file.
        times: The times.
        losses: Counts what could not be decoded.
        seek: Whether to begin with the last key frame before the first time, rather than at the start of the file.

    Yields:
        PyAV's frames, one for each time, the same object where it is shown at several.

    Raises:
        UnusableVideoError: If no frame can be decoded.
    """
    packets = _from_key_frame(video, times) if seek else packets_of(video.container, video.stream)
    done, shown = 0, None
    planned = _planned(packets, times) if video.presents else ((packet, True) for packet in packets)
    for frame in _decoded(video, planned, losses):
        if shown is not None:
            upto = times.before(frame.pts)
            for _ in range(done, upto):
                yield shown
            done = max(done, upto)
        shown = frame
        if done == times.count:
            return
    if shown is None:
        raise UnusableVideoError(f"no frame can be decoded{f': {losses.first}' if losses.first else ''}")
    for _ in range(done, times.count):
        yield shown


def _planned(packets: Iterator[Any], times: FrameTimes) -> Iterator[tuple[Any, bool]]:
    """Packets in the order of decoding, each with whether its frame is shown; none after the last that is.

    Packets come in the order of their decoding times, which are not later than those of presentation. So all frames
    that are shown before a packet's decoding time are known when it comes, and with them until when each is shown.
    """
    waiting: deque[Any] = deque()
    late: list[tuple[Any, bool]] = []  # packets that only a later one may need
    known: list[int] = []  # presentation times in order
    earliest: int | None = None
    latest: int | None = None

    def after(tick: int) -> int | None:
        place = bisect_right(known, tick)
        return known[place] if place < len(known) else None

    def shown(tick: int | None, until: int | None) -> bool:
        if tick is None:
            return True
        since = 0 if tick == earliest else times.before(tick)
        return (times.count if until is None else times.before(until)) > since

    def decided(packet: Any, until: int | None) -> Iterator[tuple[Any, bool]]:
        needed = shown(packet.pts, until)
        late.append((packet, needed))
        if needed:
            yield from late
            late.clear()

    for number, packet in enumerate(packets):
        # Matroska has none for the first packets, also behind a seek: what is shown before them may come after them.
        latest = packet.dts if packet.dts is not None else latest
        now = packet.pts if latest is None and number >= _REORDERED else latest
        if now is not None and times.before(now) >= times.count and times.count:
            # All that is shown began before: this packet only ends the last one.
            insort(known, packet.pts if packet.pts is not None else now)
            waiting.append(packet)
            break
        waiting.append(packet)
        if packet.pts is not None:
            insort(known, packet.pts)
            earliest = packet.pts if earliest is None else min(earliest, packet.pts)
            del known[:-_KEPT]
        while waiting:
            head = waiting[0].pts
            until = None if head is None else after(head)
            if head is not None and (until is None or now is None or until > now):
                break
            yield from decided(waiting.popleft(), until)
    for packet in waiting:
        yield from decided(packet, None if packet.pts is None else after(packet.pts))


def _from_key_frame(video: OpenVideo, times: FrameTimes) -> Iterator[Any]:
    """Packets from the last key frame that is shown at or before the first time.

    Seeking is not exact: an index may go by the order of decoding, and one by bytes may land behind what was asked for.
    So what is found is checked, and looked for earlier, in the end from the first byte or the first entry.
    """
    from av.error import FFmpegError

    start, first = video.start or 0, math.floor(times.start / times.time_base)
    earlier = [max(start, first - round(back / times.time_base)) for back in _BACK]
    attempts = [*({"offset": tick, "stream": video.stream} for tick in dict.fromkeys(earlier))]
    attempts += [{"offset": 0, "unsupported_byte_offset": True}, {"offset": start, "stream": video.stream}]
    for number, attempt in enumerate(attempts, start=1):
        try:
            video.container.seek(**attempt)
        except FFmpegError:  # not every format can do all of it
            if number < len(attempts):
                continue
        packets = packets_of(video.container, video.stream)
        packet = next((packet for packet in packets if packet.is_keyframe), None)
        if packet is not None and (_begins(packet) <= first or number == len(attempts)):
            yield packet
            yield from packets
            return


def _begins(packet: Any) -> float:
    """When the frame of a packet is shown, in ticks."""
    time = packet.pts if packet.pts is not None else packet.dts
    return math.inf if time is None else time


def _decoded(video: OpenVideo, packets: Iterator[tuple[Any, bool]], losses: Losses) -> Iterator[Any]:
    """Frames in the order in which they are shown, each later than the last."""
    from av.error import FFmpegError

    context = video.stream.codec_context
    lasts = max(1, round(1 / (video.rate or Fraction(25)) / video.time_base))
    latest: int | None = None
    flushed = False
    while not flushed:
        packet, needed = next(packets, (None, True))
        flushed = packet is None
        # What no other frame needs is left out where it is not shown; the decoder reads this with each packet.
        context.skip_frame = "DEFAULT" if needed else "NONREF"
        try:
            frames = context.decode(packet)
        except FFmpegError as error:
            losses.add(error)
            continue
        for frame in frames:
            if not video.presents and frame.dts is not None:
                frame.pts = frame.dts
            if frame.pts is None:
                frame.pts = (video.start or 0) if latest is None else latest + lasts
            if latest is None or frame.pts > latest:  # what comes late was to be shown before
                latest = frame.pts
                yield frame
