"""One video file, of whatever kind and state: opened, described and surveyed; or the reason why not.

Files are only ever opened for reading. PyAV reads them, and with it whatever its build of FFmpeg reads.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from unistep.modalities.unusable import UnusableFileError

SUFFIXES = frozenset(
    "." + ending
    for ending in (
        *("mp4", "m4v", "mov", "qt", "webm", "mkv", "avi", "divx", "mpg", "mpeg", "mpe", "m2v", "vob", "ts", "mts"),
        *("m2ts", "wmv", "asf", "flv", "f4v", "3gp", "3g2", "ogv", "ogm", "mxf", "y4m", "gif", "mjpeg", "mjpg", "dv"),
    )
)
"""File names that claim to be a video."""

MOST_PIXELS = 8192 * 8192
"""Most pixels of a frame that is decoded."""

_SHORT_BY = (1.0, 0.02)  # seconds, and share of the length, that a whole file may lack of what its header says
_STATED = ("mov", "matroska", "avi", "asf")  # formats whose header says how long a video is
_MOST_FAILURES = 100  # times that reading a file goes on behind what cannot be read
_OLD_AFTER = 16  # files after which old objects are looked through as well, which takes a tenth of a second
_opens = itertools.count(1)
_LATEST = 2.0**40  # seconds; a time beyond it is a broken one
_NO_VIDEOS = ("tty", "bin", "xbin", "adf", "idf", "image2", "hls", "dash", "concat", "sdp", "rtsp", "imf", "webm_dash")
_STRICT = {"err_detect": "explode"}  # a damaged frame is an error, not a patchwork
_LOCAL = {"protocol_whitelist": "file"}  # a playlist in a folder must not fetch anything


class UnusableVideoError(UnusableFileError):
    """A file that gives no clip."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenVideo:
    """A video file that is open for reading, with the stream of its pictures."""

    container: Any
    """PyAV's container."""
    stream: Any
    """PyAV's stream of pictures."""

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick of the stream's clock."""
        return Fraction(self.stream.time_base)

    @property
    def start(self) -> int | None:
        """When the first frame is shown, in ticks, by the header."""
        return self.stream.start_time

    @property
    def rate(self) -> Fraction | None:
        """The mean frame rate by the header."""
        rate = self.stream.average_rate or self.stream.guessed_rate or self.stream.base_rate
        return Fraction(rate) if rate else None

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel relative to its height."""
        found = self.stream.sample_aspect_ratio
        return Fraction(found) if found else Fraction(1)

    @property
    def presents(self) -> bool:
        """Whether packets say when frames are shown, and not only when they are decoded, as in AVI files."""
        return self.container.format.name != "avi"

    @property
    def stated(self) -> bool:
        """Whether the header states how long it lasts; of other formats FFmpeg guesses, sometimes too little."""
        return self.container.format.name.startswith(_STATED)

    @property
    def seconds(self) -> Fraction | None:
        """How long it lasts by the header, or by FFmpeg's guess."""
        if self.stream.duration is not None and self.stream.duration > 0:
            return self.stream.duration * self.time_base
        if self.container.duration is not None and self.container.duration > 0:
            return Fraction(self.container.duration, 1_000_000)
        return None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the packets of a video say, before any is decoded."""

    first: int
    """When its first frame is shown, in ticks of its clock."""
    end: int
    """When its last frame is no longer shown."""
    times: tuple[int, ...]
    """When each packet is shown, in order; there is nearly always one for each frame."""

    @property
    def packets(self) -> int:
        """Number of packets."""
        return len(self.times)

    def count(self, fps: Fraction, time_base: Fraction) -> int:
        """Frames at a constant rate; at least one."""
        return max(1, math.ceil((self.end - self.first) * time_base * fps - Fraction(1, 100)))


def libraries() -> Any:
    """PyAV.

    Raises:
        ValueError: If it is not installed, with the command that installs it.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(f"videos need PyAV ({error}): pip install 'unistep[video]'") from None
    return av


@contextmanager
def opened(file: Path) -> Iterator[OpenVideo]:
    """A video file for the block; what fails in it is the file's fault.

    The first stream of pictures is taken that is no cover of a sound. Decoding uses all processors.

    Raises:
        UnusableVideoError: With the reason, for anything that is not a video.
        ValueError: If PyAV is not installed.
    """
    av = libraries()
    _release_closed()
    try:
        with file.open("rb") as content:  # for its reason, of which FFmpeg says less
            size, head = os.fstat(content.fileno()).st_size, content.read(12)
    except OSError as error:
        raise UnusableVideoError(f"cannot be read: {error.strerror}", recognised=False) from error
    if size == 0:
        raise UnusableVideoError("empty file", recognised=False)
    try:
        container = av.open(os.fspath(file.absolute()), metadata_errors="replace", container_options=_LOCAL)
    except Exception as error:  # a header can be broken in any way; the reason goes into the summary
        if head[4:8] in (b"ftyp", b"moov", b"mdat"):
            raise UnusableVideoError("truncated or broken: its index (moov) is missing or damaged") from error
        raise UnusableVideoError("not a video", recognised=False) from error
    with container:
        try:
            if container.format.name.startswith(_NO_VIDEOS) or container.format.name.endswith("_pipe"):
                raise UnusableVideoError("not a video", recognised=False)
            stream = _pictures(container)
            # Several frames at once would be quicker, but their errors come out of order: after a damaged packet what
            # follows its next key frame was lost, too.
            stream.thread_type = "SLICE"
            stream.codec_context.options = _STRICT
            yield OpenVideo(container=container, stream=stream)
        except UnusableFileError:
            raise
        except Exception as error:  # so can its packets
            raise UnusableVideoError(f"broken: {reason(error)}") from error


def survey(video: OpenVideo) -> Survey:
    """Read all packets of a file, decoding none.

    Raises:
        UnusableVideoError: If there are none, or the file ends earlier than its header says.
    """
    last, tail, latest, times = 0, 0, Fraction(0), list[int]()
    for packet in packets_of(video.container):
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            continue
        base, lasts = Fraction(packet.time_base), packet.duration or 0
        if packet.is_discard or not abs(time * base) < _LATEST:
            continue
        latest = max(latest, (time + lasts) * base)
        if packet.stream_index != video.stream.index:
            continue
        times.append(time)
        if time >= last or len(times) == 1:
            last, tail = time, lasts
    if not times:
        raise UnusableVideoError("has no frames")
    _check_whole(video, latest)
    times.sort()
    return Survey(first=times[0], end=last + (tail or _usual_duration(video)), times=tuple(times))


def packets_of(container: Any, stream: Any = None) -> Iterator[Any]:
    """The packets from where a container is, in the order of decoding; a file that breaks off ends there.

    Args:
        container: PyAV's container.
        stream: One of its streams; all by default.
    """
    from av.error import FFmpegError

    failures = 0
    while failures < _MOST_FAILURES:
        try:
            for packet in container.demux() if stream is None else container.demux(stream):
                if packet.size:  # an empty one stands for the end
                    yield packet
            return
        except (FFmpegError, IndexError):  # IndexError: of a stream that only a broken packet names
            failures += 1


def reason(error: Exception) -> str:
    """What a library says, in one short line without the name of the file."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())[:120] or type(error).__name__


def _release_closed() -> None:
    """Free the decoders of files that were closed before.

    PyAV's containers and streams refer to each other, and to the buffers of a dozen frames, 50 MB at 1080p, which the
    collector would leave for long: it counts objects and not their size. Nearly all are young, which is quick to check.
    """
    gc.collect(2 if next(_opens) % _OLD_AFTER == 0 else 1)


def _pictures(container: Any) -> Any:
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        if container.streams.audio:
            raise UnusableVideoError("has sound and no pictures", recognised=False)
        raise UnusableVideoError("has no pictures", recognised=False)
    stream = streams[0]
    if stream.codec_context is None:
        raise UnusableVideoError("is in a code that this build of FFmpeg does not know")
    if stream.width * stream.height > MOST_PIXELS:
        raise UnusableVideoError(f"{stream.width} x {stream.height} is more than {MOST_PIXELS:,} pixels")
    return stream


def _check_whole(video: OpenVideo, latest: Fraction) -> None:
    """Refuse a file whose packets end before the time that its header says."""
    stated = video.container.duration
    if stated is None or not video.stated:
        return
    seconds = Fraction(stated, 1_000_000)
    if video.rate and video.container.format.name == "avi":  # whose length FFmpeg adapts to that of the file
        seconds = max(seconds, video.stream.frames / video.rate)
    missing = seconds + Fraction(video.container.start_time or 0, 1_000_000) - latest
    if missing > max(_SHORT_BY[0], _SHORT_BY[1] * seconds):
        raise UnusableVideoError(
            f"truncated: ends at {float(seconds - missing):.1f} of {float(seconds):.1f} s; copy it again"
        )


def _usual_duration(video: OpenVideo) -> int:
    """Ticks of one frame at the mean rate."""
    return max(1, round(1 / (video.rate or Fraction(25)) / video.time_base))
