"""Writing clips, or pictures of them, so that a file is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unistep.modalities import writing as output
from unistep.modalities.video_preview import film_strip, side_by_side
from unistep.modalities.video_reading import libraries, reason

if TYPE_CHECKING:
    from PIL import Image

ENCODERS: dict[str, tuple[tuple[str, dict[str, str]], ...]] = {
    ".mp4": (
        ("libx264", {"crf": "16", "preset": "medium"}),
        ("libopenh264", {"b": "8M"}),
        ("mpeg4", {"qscale": "2", "b": "8M"}),
    ),
    ".webm": (
        ("libvpx-vp9", {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
        ("libvpx", {"crf": "8", "b": "8M", "deadline": "good", "cpu-used": "4"}),
        ("libsvtav1", {"crf": "20", "preset": "8"}),
    ),
    ".mkv": (("ffv1", {}),),
}
"""Encoders of each kind of file, the usual one first: builds of FFmpeg differ in which they have."""
LOSSLESS = ".mkv"
"""Files that hold the very pixels."""
MOVING = (".mp4", ".webm", ".gif")
"""Files that move and may grow, by how their name ends."""
CLIPS = output.Endings(
    noun="videos",
    all=(*MOVING, LOSSLESS, *output.FORMATS, ".npz"),
    usual=".mp4, .webm, .gif, .npz, .png, .jpg, .webp",
    example="out.mp4",
    numbered=".mp4",
)
"""Clips, arrays of them, and pictures of them."""

_SMALL = 256 * 256  # pixels of a frame, up to which threads of the encoder cost more than they save
_PALETTE_FRAMES = 8  # frames that the palette of a GIF is made from


def check(path: str | Path) -> None:
    """Find out whether clips can be written to ``path``, leaving nothing there.

    Raises:
        ValueError: If not, with the reason.
    """
    output.check_path(path, CLIPS)
    suffix = ".mp4" if output.is_folder(path) else Path(path).suffix.lower()
    if suffix in ENCODERS:
        _encoder(suffix)


def write(clips: np.ndarray, fps: float, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
    """Write clips, uint8 ``[n, c, frames, h, w]``, in the format that the name says.

    Raises:
        ValueError: If they cannot be written.
    """
    check(path)
    suffix = Path(path).suffix.lower()
    if output.is_folder(path):
        output.fill_folder([partial(_write_mp4, clip, fps) for clip in clips], path, ".mp4")
    elif suffix in output.FORMATS:
        output.write_picture(_picture(clips), path)
    else:
        content = encode(clips, fps, suffix, labels=labels)  # whole in memory: a full disk ends in one plain error
        output.write_whole(path, lambda file: file.write(content))


def encode(clips: np.ndarray, fps: float, suffix: str, *, labels: Sequence[int] | None = None) -> bytes:
    """The bytes of one file of clips, uint8 ``[n, c, frames, h, w]``; several move side by side.

    Args:
        clips: The pixels.
        fps: Frames per second.
        suffix: How the name of such a file ends.
        labels: Classes, shape ``[n]``, for ``.npz``.

    Raises:
        ValueError: If there is no encoder for them, or they are too large for the format.
    """
    if suffix == ".npz":
        return output.encode_npz(clips.transpose(0, 2, 3, 4, 1), labels, fps=np.asarray(fps))
    if suffix in output.FORMATS:
        return output.encode_picture(_picture(clips), suffix)
    shown = side_by_side(clips).transpose(1, 2, 3, 0)
    return _encode_gif(shown, fps) if suffix == ".gif" else _encode_stream(shown, fps, suffix)


def _picture(clips: np.ndarray) -> Image.Image:
    from unistep.modalities.contact_sheet import draw_grid

    strips = [film_strip(clip) for clip in clips]
    return strips[0] if len(strips) == 1 else draw_grid(strips, columns=1 if len(strips) < 4 else None)


def _write_mp4(clip: np.ndarray, fps: float, path: Path) -> None:
    path.write_bytes(encode(clip[None], fps, ".mp4"))


def _encoder(suffix: str) -> tuple[str, dict[str, str]]:
    """The first encoder for such files that this build of FFmpeg has, with its options.

    Raises:
        ValueError: If it has none, or PyAV is not installed.
    """
    av = libraries()
    for name, options in ENCODERS[suffix]:
        try:
            av.codec.Codec(name, "w")
        except ValueError:  # unknown to this build
            continue
        return name, options
    names = ", ".join(name for name, _ in ENCODERS[suffix])
    raise ValueError(f"{suffix} files need one of the encoders {names}, and this build of PyAV has none; use .gif")


def _encode_stream(frames: np.ndarray, fps: float, suffix: str) -> bytes:
    """An mp4, webm or mkv of frames ``[frames, h, w, c]``."""
    content = BytesIO()
    with encoding(content, (frames.shape[1], frames.shape[2]), fps, suffix) as add:
        add(frames)
    return content.getvalue()


@contextmanager
def encoding(
    target: BytesIO | Path, size: tuple[int, int], fps: float, suffix: str
) -> Iterator[Callable[[np.ndarray], None]]:
    """An mp4, webm or mkv that grows; odd sizes get their last row or column twice, as 4:2:0 of the first two needs.

    Args:
        target: Where to.
        size: Height and width of the frames.
        fps: Frames per second.
        suffix: ``.mp4``, ``.webm`` or ``.mkv``.

    Yields:
        A function that adds frames, uint8 ``[frames, h, w, c]`` with 1 or 3 channels.

    Raises:
        OSError: If the disk does not take them.
        ValueError: If there is no encoder for them.
    """
    av = libraries()
    from av.error import FFmpegError
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    name, options = _encoder(suffix)
    (height, width), rate, count = size, Fraction(fps).limit_denominator(1001), 0
    form, even, how = "yuv420p", 2, {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}
    if suffix == LOSSLESS:
        form, even, how = "bgr0", 1, {}
    kind = "matroska" if suffix == ".mkv" else suffix[1:]
    try:
        with av.open(target if isinstance(target, BytesIO) else str(target), "w", format=kind) as container:
            stream: Any = container.add_stream(name, rate=rate, options=options)
            stream.height, stream.width = height + height % even, width + width % even
            stream.pix_fmt = form
            if height * width <= _SMALL:
                stream.codec_context.thread_count = 1
            if how:
                stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU601, ColorRange.MPEG

            def add(frames: np.ndarray) -> None:
                nonlocal count
                frames = np.pad(frames, ((0, 0), (0, height % even), (0, width % even), (0, 0)), mode="edge")
                for pixels in frames if frames.shape[3] == 3 else frames.repeat(3, axis=3):
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                        format=form,
                        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
                        threads=1,
                        **how,
                    )
                    frame.pts, frame.time_base = count, 1 / rate
                    container.mux(stream.encode(frame))
                    count += 1

            yield add
            container.mux(stream.encode(None))
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise  # the disk's fault, not that of the frames
        raise ValueError(
            f"frames of {width} x {height} pixels cannot be written as {suffix}: {reason(error)}"
        ) from error


def _encode_gif(frames: np.ndarray, fps: float) -> bytes:
    """A GIF of frames ``[frames, h, w, c]`` that repeats; its times are whole hundredths of a second, at least two."""
    from PIL import Image

    if max(frames.shape[1:3]) > 65_535:
        raise ValueError(f"{frames.shape[2]} x {frames.shape[1]} pixels are too many for a GIF")
    durations = [gif_duration(number, fps) for number in range(len(frames))]
    if frames.shape[3] == 1:
        images = [Image.fromarray(frame[..., 0]) for frame in frames]
    else:
        # One palette for all frames, as those of single frames would flicker.
        some = np.concatenate(frames[:: max(1, len(frames) // _PALETTE_FRAMES)], axis=0)
        palette = Image.fromarray(np.ascontiguousarray(some)).quantize(256, Image.Quantize.MEDIANCUT)
        images = [Image.fromarray(np.ascontiguousarray(frame)).quantize(palette=palette) for frame in frames]
    content = BytesIO()
    images[0].save(content, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1)
    return content.getvalue()


def gif_duration(number: int, fps: float) -> int:
    """How long frame ``number`` of a GIF is shown, in milliseconds; its times are whole hundredths of a second."""
    return 10 * max(2, round(100 * (number + 1) / fps) - round(100 * number / fps))
