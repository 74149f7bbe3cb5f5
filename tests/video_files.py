"""Small video files made with PyAV: good ones of many kinds, and broken ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


def counting(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey frames, each of one level that tells its number: 16 + 8 times it, modulo 28; uint8 ``[frames, h, w, 3]``."""
    levels = 16 + 8 * (np.arange(frames) % 28)
    return np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).astype(np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """Which of :func:`counting`'s frames this is, from its pixels; up to a multiple of 28."""
    return round((float(np.median(pixels)) - 16) / 8) % 28


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    fps: int | Fraction = 25,
    times: Sequence[Fraction] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    rotation: float | None = None,
    aspect: Fraction | None = None,
    sound: bool = False,
    faststart: bool = False,
) -> Path:
    """Write frames ``[frames, h, w, 3]``.

    Args:
        path: Where to; its ending is the format.
        frames: The pixels.
        fps: Frames per second.
        times: When each is shown, in seconds, for a variable frame rate.
        codec: Name of the encoder.
        pix_fmt: Its pixel format.
        options: Its options.
        rotation: Degrees by which a player turns the frames.
        aspect: Width of a pixel relative to its height.
        sound: Whether there is a track of silence as long as the video.
        faststart: Whether the index comes first.
    """
    import av

    flags = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", container_options=flags) as container:
        given = options if options is not None else {"crf": "4", "g": "12"}
        stream: Any = container.add_stream(codec, rate=Fraction(fps), options=given)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        clock = Fraction(1, 90_000) if times is not None else 1 / Fraction(fps)
        stream.codec_context.time_base = clock
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        voice: Any = container.add_stream("aac", rate=16_000) if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number if times is None else round(times[number] / clock)
            frame.time_base = clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            _silence(container, voice, len(frames) / float(fps))
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A video container with sound and no pictures."""
    import av

    with av.open(str(path), "w") as container:
        _silence(container, container.add_stream("aac", rate=16_000), seconds)
    return path


def _silence(container: Any, stream: Any, seconds: float) -> None:
    import av

    for start in range(0, round(seconds * 16_000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def damage(path: Path, share: tuple[float, float] = (0.4, 0.6)) -> Path:
    """Overwrite every seventh byte of the packets in a part of a file.

    Headers stay whole, since a demuxer may leave out what follows a damaged one without a word. Where packets do not
    lie in one piece (a transport stream), every seventh byte of that part of the file is overwritten.
    """
    import av

    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    begin, end = (int(part * len(packets)) for part in share)
    places = [content.find(packet) for packet in packets]
    if min(places) < 0:
        spans = [(int(share[0] * len(content)), int(share[1] * len(content)))]
    else:
        spans = [(places[i] + 16, places[i] + len(packets[i])) for i in range(begin, end)]
    for first, last in spans:
        for i in range(first, last, 7):
            content[i] ^= 0x5A
    path.write_bytes(content)
    return path


def truncate(path: Path, share: float = 0.5) -> Path:
    """Keep the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path
