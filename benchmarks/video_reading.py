r"""How long it takes to read a clip of 16 frames anywhere in an hour-long 1080p video.

    python benchmarks/video_reading.py --windows 40

The video is made first: a moving texture with grain, in H.264 with three B-frames and one key frame in ten seconds,
which is long; its packets are copied until it lasts an hour. Clips begin at random, and at the worst place, just before
a key frame, where all of a group of 250 frames lies before them. Beside it stands what a reader costs that seeks as
well but decodes every frame from the key frame on, converts each to pixels at its full size and has Pillow shrink those
of the clip. Processor time is printed beside the time that passed, which other work on the machine lengthens.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

from unistep.evaluation.hardware import hardware
from unistep.modalities.video_options import VideoOptions
from unistep.modalities.video_windows import read_clip

FPS, GROUP, HEIGHT, WIDTH = 25, 250, 1080, 1920
"""Frames per second, frames from one key frame to the next, and size."""


def texture(seed: int = 0) -> np.ndarray:
    """A smooth picture larger than a frame, with grain, uint8 ``[h, w, 3]``."""
    values = np.random.default_rng(seed)
    coarse = Image.fromarray(values.integers(0, 255, (40, 70, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH + 512, HEIGHT + 512), Image.Resampling.BICUBIC)).astype(np.int16)
    return (smooth + values.integers(-10, 11, smooth.shape)).clip(0, 255).astype(np.uint8)


def one_group() -> Iterator[av.VideoFrame]:
    """The frames of ten seconds: the texture moves in a circle."""
    ground = texture()
    for number in range(GROUP):
        turn = 2 * np.pi * number / GROUP
        top, left = round(256 + 200 * np.sin(turn)), round(256 + 200 * np.cos(turn))
        frame = av.VideoFrame.from_ndarray(ground[top : top + HEIGHT, left : left + WIDTH].copy(), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def make_video(path: Path, hours: float) -> None:
    """Encode one group of frames, and copy its packets until the video is so long."""
    short = path.with_name("group.mp4")
    with av.open(str(short), "w") as container:
        options = {"preset": "veryfast", "crf": "23", "g": str(GROUP), "keyint_min": str(GROUP), "bf": "3"}
        stream: Any = container.add_stream("libx264", rate=FPS, options={**options, "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in one_group():
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(short)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy: Any = target.add_stream_from_template(stream)
        kept = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in source.demux(stream) if p.size]
        length = round(GROUP / FPS / stream.time_base)
        for number in range(round(hours * 3600 * FPS / GROUP)):
            for content, pts, dts, duration, is_key in kept:
                packet: Any = av.Packet(content)
                packet.pts, packet.dts, packet.duration = (pts or 0) + number * length, dts + number * length, duration
                packet.time_base, packet.stream, packet.is_keyframe = stream.time_base, copy, is_key
                target.mux(packet)
    short.unlink()


def read_plainly(path: Path, options: VideoOptions, start: float) -> np.ndarray:
    """The same clip by decoding, and converting at full size, every frame from the key frame on."""
    side, times = options.size or 32, [start + i / options.rate for i in range(options.length)]
    found: list[np.ndarray] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        container.seek(int(start / float(stream.time_base)), stream=stream)
        last = np.empty(0)
        for frame in container.decode(stream):
            while len(found) < len(times) and (frame.time or 0.0) > times[len(found)] + 0.005 and last.size:
                cut = Image.fromarray(last[:, (WIDTH - HEIGHT) // 2 : (WIDTH + HEIGHT) // 2])
                found.append(np.asarray(cut.resize((side, side), Image.Resampling.LANCZOS)))
            if len(found) == len(times):
                break
            last = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
    return np.stack(found).transpose(3, 0, 1, 2)


def timed(read: Callable[[float], object], starts: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that passed, and processor seconds, of each call."""
    passed, used = [], []
    for start in starts:
        clock, processor = time.perf_counter(), time.process_time()
        read(start)
        passed.append(time.perf_counter() - clock)
        used.append(time.process_time() - processor)
    return np.array(passed), np.array(used)


def row(name: str, passed: np.ndarray, used: np.ndarray) -> str:
    """A line of the table, in milliseconds."""
    middle, late, most = (1000 * np.percentile(passed, q) for q in (50, 95, 100))
    processor = (1000 * np.percentile(used, q) for q in (50, 95, 100))
    return f"| {name} | {middle:.0f} | {late:.0f} | {most:.0f} | {' | '.join(f'{value:.0f}' for value in processor)} |"


def main() -> None:
    """Make the video, read clips, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=40, help="clips of each kind")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the video")
    parser.add_argument("--size", type=int, default=64, help="side of the clips, in pixels")
    given = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        make_video(path, given.hours)
        seconds = given.hours * 3600
        print(f"{seconds:,.0f} s of {WIDTH} x {HEIGHT} at {FPS} fps, {path.stat().st_size / 2**20:,.0f} MiB")
        anywhere = [rng.uniform(0, seconds - 5) for _ in range(given.windows)]
        ends = [10.0 * rng.randrange(1, int(seconds / 10)) for _ in range(given.windows)]
        own, slow = (VideoOptions(size=given.size, frames=16, fps=fps) for fps in (FPS, 8.0))
        cases = {
            "random, 25 fps": (own, anywhere),
            "random, 8 fps": (slow, anywhere),
            "worst, 25 fps": (own, [end - 16 / FPS for end in ends]),
            "worst, 8 fps": (slow, [end - 16 / 8 for end in ends]),
        }
        print("| clip | ms p50 | p95 | most | processor ms p50 | p95 | most |\n|---|---:|---:|---:|---:|---:|---:|")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, (options, starts) in cases.items():
            print(row(name, *timed(lambda start, o=options: read_clip(path, o, start=start), starts)), flush=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        few = max(1, given.windows // 8)
        for name in ("random, 25 fps", "worst, 25 fps"):
            options, starts = cases[name]
            plain = timed(lambda start, o=options: read_plainly(path, o, start), starts[:few])
            print(row(f"{name}, every frame at full size", *plain), flush=True)
        clip = read_clip(path, own, start=ends[0] - 3)[0].astype(int)
        apart = np.abs(clip - read_plainly(path, own, ends[0] - 3)).mean()
        print(f"\nmemory grew by {grown:.0f} MiB; both readers' pixels are {apart:.2f} levels apart. {hardware()}")


if __name__ == "__main__":
    main()
