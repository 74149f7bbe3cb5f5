"""Streams of video: raw frames for a pipe, and files that grow frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from unistep.files import replacing
from unistep.modalities.stream_output import StreamOutput, leave
from unistep.modalities.video_writing import MOVING, encoding, gif_duration

if TYPE_CHECKING:
    from unistep.modalities.video import VideoModality

Pixels = Callable[[Tensor], np.ndarray]
"""A chunk ``[c, frames, h, w]`` as uint8 ``[frames, h, w, c]``."""


def video_stream(modality: VideoModality) -> StreamOutput:
    """The output of a stream of video.

    Args:
        modality: Size, colours and frame rate of a clip.
    """

    def pixels(chunk: Tensor) -> np.ndarray:
        return np.ascontiguousarray(modality.to_stored(chunk).numpy().transpose(1, 2, 3, 0))

    channels, _, height, width = modality.shape
    size, fps = f"{width}x{height}", f"{modality.fps:g}"
    layout = "gray" if channels == 1 else "rgb24"
    return StreamOutput(
        content="video",
        raw=f"raw frames ({layout})",
        rate=modality.fps,
        player=f"ffplay -f rawvideo -pixel_format {layout} -video_size {size} -framerate {fps} -i -",
        endings=MOVING,
        to_bytes=lambda chunk: pixels(chunk).tobytes(),
        open_file=partial(_open_file, modality.fps, pixels),
        pictures=lambda chunk: pixels(chunk).repeat(3 // channels, axis=3),
    )


@contextmanager
def _open_file(
    fps: float, pixels: Pixels, path: Path, finish: Callable[[Path], object] = leave
) -> Iterator[Callable[[Tensor], object]]:
    """Write a file frame by frame; it replaces an older one when the block ends.

    Frames may have any size, the same for all of them. Where there is none, the file is not touched.

    Raises:
        ValueError: If it cannot be written; a :class:`~unistep.files.DiskError` on a full or broken disk.
    """
    suffix = path.suffix.lower()
    with ExitStack() as stack:
        adding: list[Callable[[np.ndarray], object]] = []

        def add(chunk: Tensor) -> None:
            frames = pixels(chunk)
            if not adding:
                temporary = stack.enter_context(replacing(path))
                stack.enter_context(_finishing(temporary, finish))
                begin = (
                    _gif(temporary, fps) if suffix == ".gif" else encoding(temporary, frames.shape[1:3], fps, suffix)
                )
                adding.append(stack.enter_context(begin))
            adding[0](frames)

        yield add


@contextmanager
def _finishing(path: Path, finish: Callable[[Path], object]) -> Iterator[None]:
    """Call ``finish`` when the block ends well."""
    yield
    finish(path)


@contextmanager
def _gif(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A GIF that repeats, of frames ``[frames, h, w, c]``; each has colours of its own, as the later are not known."""
    from PIL import GifImagePlugin, Image

    count = 0
    with path.open("wb") as file:

        def add(frames: np.ndarray) -> None:
            nonlocal count
            for pixels in frames:
                grey = pixels.shape[2] == 1
                whole = Image.fromarray(pixels[..., 0] if grey else pixels)
                image = whole if grey else whole.quantize(256, Image.Quantize.MEDIANCUT)
                if count == 0:
                    file.writelines(GifImagePlugin.getheader(image.copy(), info={"loop": 0})[0])
                settings: dict[str, Any] = {"duration": gif_duration(count, fps), "include_color_table": not grey}
                file.writelines(GifImagePlugin.getdata(image, **settings))
                count += 1

        yield add
        file.write(b";")
