"""Streams of video: raw frames for a pipe, and files that grow frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from unistep.files import replacing
from unistep.modalities.gif_stream import growing_gif
from unistep.modalities.stream_output import StreamOutput, leave
from unistep.modalities.video_writing import MOVING, encoding

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
        at_rate=lambda rate: video_stream(replace(modality, fps=rate)),
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
                    growing_gif(temporary, fps)
                    if suffix == ".gif"
                    else encoding(temporary, frames.shape[1:3], fps, suffix)
                )
                adding.append(stack.enter_context(begin))
            adding[0](frames)

        yield add


@contextmanager
def _finishing(path: Path, finish: Callable[[Path], object]) -> Iterator[None]:
    """Call ``finish`` when the block ends well."""
    yield
    finish(path)
