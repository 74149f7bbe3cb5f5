"""GIFs that grow: one palette for all frames where it serves them, so that what stands still does not flicker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image

from unistep.modalities.video_writing import gif_duration

KEPT, KEPT_BYTES = 256, 2**25
"""Frames that are kept back until the palette is chosen, and bytes of frames: ten seconds at 25 frames a second."""
PALETTE_FRAMES = 32
"""Frames that it is chosen from, spread over those."""
WORST = 8.0
"""Mean error of a frame, in levels of 255, above which it may get a palette of its own."""

_AT_ONCE = 4  # frames that were kept back and are written with a new one, so that none takes long


@contextmanager
def growing_gif(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A GIF that repeats, of frames ``[frames, h, w, c]``; it is whole when the block ends.

    Args:
        path: The file.
        fps: Frames per second.

    Yields:
        A function that adds frames, uint8 with 1 or 3 channels.
    """
    with path.open("wb") as file:
        writer = _Writer(file, fps)
        yield writer.add
        writer.close()


@final
class _Writer:
    """Writes frames once the palette is known.

    Args:
        file: Where to.
        fps: Frames per second.
    """

    def __init__(self, file: IO[bytes], fps: float) -> None:
        self._file, self._fps, self._count = file, fps, 0
        self._kept: deque[UInt8[np.ndarray, "h w c"]] = deque()
        self._bytes = 0
        self._palette: Image.Image | None = None

    def add(self, frames: UInt8[np.ndarray, "frames h w c"]) -> None:
        """Take in some frames."""
        for frame in frames:
            self._kept.append(frame)
            self._bytes += frame.nbytes
            enough = frame.shape[2] == 1 or len(self._kept) >= KEPT or self._bytes > KEPT_BYTES
            if self._palette is None and enough:
                self._choose()
            if self._palette is not None:
                self._write(_AT_ONCE)

    def close(self) -> None:
        """Write what is kept back, and the end."""
        if self._palette is None and self._kept:
            self._choose()
        self._write(len(self._kept))
        self._file.write(b";")

    def _choose(self) -> None:
        """The palette of the frames that are kept; of grey ones all levels."""
        first, many = self._kept[0], len(self._kept)
        if first.shape[2] == 1:
            self._palette = Image.fromarray(first[..., 0])
        else:
            chosen = sorted({i * many // PALETTE_FRAMES for i in range(PALETTE_FRAMES)})
            some = np.concatenate([self._kept[i] for i in chosen])
            self._palette = Image.fromarray(some).quantize(256, Image.Quantize.MEDIANCUT)
        header = self._drawn(first, self._palette).copy()
        self._file.writelines(GifImagePlugin.getheader(header, info={"loop": 0})[0])

    def _write(self, most: int) -> None:
        """Write up to so many of the frames that are kept."""
        for _ in range(min(most, len(self._kept))):
            assert self._palette is not None
            frame = self._kept.popleft()
            image, own = self._drawn(frame, self._palette), False
            error = _error(frame, image)
            if error > WORST:  # a scene that nothing before has had the colours of
                better = Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
                own = _error(frame, better) < error / 2
                image = better if own else image
            settings: dict[str, Any] = {"duration": gif_duration(self._count, self._fps), "include_color_table": own}
            self._file.writelines(GifImagePlugin.getdata(image, **settings))
            self._count += 1

    @staticmethod
    def _drawn(frame: UInt8[np.ndarray, "h w c"], palette: Image.Image) -> Image.Image:
        if frame.shape[2] == 1:
            return Image.fromarray(frame[..., 0])
        return Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)


def _error(frame: UInt8[np.ndarray, "h w c"], image: Image.Image) -> float:
    """Mean difference between a frame and what stands for it."""
    if frame.shape[2] == 1:
        return 0.0
    return float(np.abs(np.asarray(image.convert("RGB")).astype(int) - frame).mean())
