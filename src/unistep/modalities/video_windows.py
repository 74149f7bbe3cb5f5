"""Videos as training data: clips of one length over the whole of each, read in one pass or by seeking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from unistep.modalities.recording import Recording
from unistep.modalities.unusable import UnusableFileError
from unistep.modalities.video_frames import FrameTimes, Losses, frames_at
from unistep.modalities.video_geometry import FrameSize
from unistep.modalities.video_options import SIZE, VideoOptions
from unistep.modalities.video_reading import OpenVideo, Survey, UnusableVideoError, libraries, opened, survey

SHORT = "shorter than a clip: its last frame is held"
"""Remark on a video that ends before the clip does."""
STILL = "has one frame: a still picture"
"""Remark on a video of one frame."""
SLOW = "has fewer frames per second than wanted: frames are repeated"
"""Remark on a video of a lower frame rate."""

_AT_ONCE = 16  # frames that are kept in memory together
_SPARSE = 2  # clips that are no more than this part of a video are read by seeking


def frame_size(options: VideoOptions) -> FrameSize:
    """The rule that brings frames to the size of the options."""
    side = options.size or SIZE
    return FrameSize(
        height=side, width=side, channels=options.channels or 3, fit=options.fit, background=options.background
    )


def count_windows(path: Path, options: VideoOptions) -> int:
    """How many clips a file has by its header; one for a file that cannot be read, which reading then reports."""
    libraries()
    try:
        with opened(path) as video:
            seconds = video.seconds or Fraction(0)
    except UnusableVideoError:
        return 1
    return max(1, 1 + (int(seconds * rate_of(options)) - options.length) // options.step)


def read_windows(path: Path, options: VideoOptions) -> Recording:
    """The whole of a video at a constant frame rate, and the clips of it.

    One pass over the packets finds its length; a second one decodes. A clip begins every ``stride`` frames; an end that
    is shorter than a clip is left out. In training a clip may begin up to half a stride earlier or later. A video that
    is shorter than a clip is one clip, whose last frame is held.

    Raises:
        UnusableVideoError: If no frame can be decoded, or the file is truncated.
        ValueError: If PyAV is not installed.
    """
    with opened(path) as video:
        found = survey(video)
        times = _times(video, found, options)
        notes = _remarks(video, found, times, options)
        length = times.count
    total, losses = max(length, options.length), Losses(notes=notes)
    starts = tuple(range(0, total - options.length + 1, options.step))
    size = frame_size(options)

    def whole() -> Iterator[np.ndarray]:
        with opened(path) as video:
            yield from _stacked(_pixels(video, times, size, losses))

    def some(chosen: tuple[int, ...]) -> Recording:
        if len(chosen) * options.length * _SPARSE > total:
            return Recording(blocks=_primed(whole(), total), starts=chosen, slack=options.step // 2, notes=losses.notes)

        def clips() -> Iterator[np.ndarray]:
            with opened(path) as video:
                for start in chosen:
                    part = _part(times, start, options.length)
                    yield np.stack(list(_pixels(video, part, size, losses, seek=True)))

        places = tuple(number * options.length for number in range(len(chosen)))
        blocks = _primed(clips(), len(chosen) * options.length)
        return Recording(blocks=blocks, starts=places, slack=0, notes=losses.notes)

    return Recording(
        blocks=_primed(whole(), total),
        starts=starts,
        slack=options.step // 2,
        moments=found.packets,
        shown=lambda: _shown(found, times, total),
        notes=losses.notes,
        seek=some,
    )


def read_clip(
    path: Path, options: VideoOptions, *, start: float = 0.0, size: FrameSize | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One clip, read by seeking to the last key frame before it: of an hour-long file no more is decoded.

    Args:
        path: The file.
        options: Length and frame rate, and the size.
        start: When it begins, in seconds from the beginning of the video.
        size: The rule for the size; by default that of the options.

    Returns:
        Pixels, uint8 ``[c, frames, h, w]``, and remarks.

    Raises:
        UnusableVideoError: If no frame of it can be decoded, or the video ends before it.
        ValueError: If ``start`` is negative, or PyAV is not installed.
    """
    if not 0 <= start < float("inf"):
        raise ValueError(f"a clip begins at 0 seconds or later, got {start:g}")
    fps, losses = rate_of(options), Losses()
    with opened(path) as video:
        seconds = video.seconds if video.stated and start else None
        if seconds is not None and start >= seconds:
            raise UnusableVideoError(f"lasts {float(seconds):.2f} s; a clip cannot begin at {start:g} s")
        begin = (video.start or 0) * video.time_base + Fraction(start).limit_denominator(1_000_000)
        times = FrameTimes(start=begin, fps=fps, count=options.length, time_base=video.time_base)
        pixels = list(_pixels(video, times, size or frame_size(options), losses, seek=start > 0))
    return np.ascontiguousarray(np.stack(pixels, axis=1)), tuple(losses.notes)


def duration(path: Path) -> float:
    """How long a video lasts by its packets, in seconds; none of them is decoded.

    Raises:
        UnusableVideoError: If it is none, or is truncated.
        ValueError: If PyAV is not installed.
    """
    with opened(path) as video:
        found = survey(video)
        return float((found.end - found.first) * video.time_base)


def frame_count(path: Path, options: VideoOptions) -> int | None:
    """Frames that a video has at a constant rate; ``None`` for a picture, or where they cannot be counted."""
    try:
        with opened(path) as video:
            found = survey(video)
            return None if found.packets == 1 else found.count(rate_of(options), video.time_base)
    except UnusableVideoError:
        return None


def rate_of(options: VideoOptions) -> Fraction:
    """The frame rate of the options, exact for those of television such as 30000/1001."""
    return Fraction(options.rate).limit_denominator(1001)


def _times(video: OpenVideo, found: Survey, options: VideoOptions) -> FrameTimes:
    fps, base = rate_of(options), video.time_base
    return FrameTimes(start=found.first * base, fps=fps, count=found.count(fps, base), time_base=base)


def _part(times: FrameTimes, start: int, count: int) -> FrameTimes:
    """Some of the times: ``count`` from number ``start`` on."""
    return FrameTimes(start=times.start + start / times.fps, fps=times.fps, count=count, time_base=times.time_base)


def _shown(found: Survey, times: FrameTimes, total: int) -> np.ndarray:
    """Which frame of the file is shown at each time; the last one at those after the end."""
    begins, moments = [times.before(tick) for tick in found.times], np.minimum(np.arange(total), times.count - 1)
    return np.maximum(np.searchsorted(begins, moments, side="right") - 1, 0)


def _remarks(video: OpenVideo, found: Survey, times: FrameTimes, options: VideoOptions) -> list[str]:
    if found.packets == 1:
        return [STILL]
    notes = [SHORT] if times.count < options.length else []
    mean = found.packets / max(Fraction(1, 1000), (found.end - found.first) * video.time_base)
    return [*notes, SLOW] if mean * Fraction(105, 100) < times.fps else notes


def _pixels(
    video: OpenVideo, times: FrameTimes, size: FrameSize, losses: Losses, *, seek: bool = False
) -> Iterator[np.ndarray]:
    """Pixels ``[c, h, w]`` at each time; those of a frame that is shown several times are made once."""
    last, pixels = None, np.empty(0)
    for frame in frames_at(video, times, losses, seek=seek):
        if frame is not last:
            if last is None:
                losses.notes += [note for note in size.notes(frame) if note not in losses.notes]
            last, pixels = frame, size.pixels(frame, video.pixel_aspect)
        yield pixels


def _stacked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames in blocks ``[time, c, h, w]``."""
    block: list[np.ndarray] = []
    for frame in frames:
        block.append(frame)
        if len(block) == _AT_ONCE:
            yield np.stack(block)
            block.clear()
    if block:
        yield np.stack(block)


def _primed(blocks: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
    """The same blocks, the first of which is read now, so that a file that gives none is refused before it is used.

    They are ``total`` frames long: what a broken end lacks is its last frame, held.
    """
    first = next(blocks)

    def all_of_them() -> Iterator[np.ndarray]:
        left, last = total, first[-1:]
        try:
            for block in chain([first], blocks):
                yield block[:left]
                left, last = left - len(block), block[-1:]
        except UnusableFileError:  # of its remarks, the count of packets tells
            pass
        while left > 0:
            yield np.repeat(last, min(left, _AT_ONCE), axis=0)
            left -= _AT_ONCE

    return all_of_them()
