"""How video files become clips of one size, length and frame rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from unistep.modalities.signal_options import SignalOptions, check_text, check_whole
from unistep.spelling import nearest_hint

Fit = Literal["crop", "pad", "stretch"]
"""How frames of another shape are brought to the size."""

SIZE, FRAMES, FPS = 32, 16, 8.0
"""Side in pixels, length in frames and frames per second where the options do not say."""
LARGEST_SIDE = 4096
"""Longest side of a clip, in pixels."""
MOST_FRAMES = 100_000
"""Longest clip, in frames."""
FPS_RANGE = (0.01, 1_000.0)
"""Frame rates that are taken for one."""


@dataclass(frozen=True, kw_only=True)
class VideoOptions(SignalOptions):
    """Size, colours, length and frame rate of clips, and where they are cut from a video."""

    size: int | None = None
    """Side of the square frames, in pixels; 32 by default."""
    channels: int | None = None
    """1 for grey, 3 for RGB, the default of files."""
    frames: int | None = None
    """Length of a clip, in frames; 16 by default."""
    fps: float | None = None
    """Frames per second that videos are brought to, whatever their own rate is; 8 by default."""
    stride: int | None = None
    """Frames from the beginning of one clip to that of the next; by default a clip's length, so that none overlap. In
    training a clip begins up to half of it earlier or later."""
    fit: Fit = "crop"
    """Rule for frames of another shape: centred ``crop``, ``pad`` with the background, or ``stretch``."""
    background: str = "white"
    """Colour around padded frames, as a name or ``#rrggbb``."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        from PIL import ImageColor

        check_text({"fit": "crop", "background": "white"}, fit=self.fit, background=self.background)
        check_whole(size=self.size, channels=self.channels, frames=self.frames, stride=self.stride)
        if self.size is not None and not 1 <= self.size <= LARGEST_SIDE:
            raise ValueError(f"size must be from 1 to {LARGEST_SIDE} pixels, got {self.size}")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels of videos must be 1 (grey) or 3 (RGB), got {self.channels}")
        if self.frames is not None and not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"frames must be from 1 to {MOST_FRAMES:,}, got {self.frames}")
        if self.stride is not None and not 1 <= self.stride <= MOST_FRAMES:
            raise ValueError(f"stride must be from 1 to {MOST_FRAMES:,} frames, got {self.stride}")
        if self.fps is not None and (not isinstance(self.fps, int | float) or isinstance(self.fps, bool)):
            raise ValueError(f"fps must be a number, got {self.fps!r}")
        if self.fps is not None and not FPS_RANGE[0] <= self.fps <= FPS_RANGE[1]:
            raise ValueError(f"fps must be from {FPS_RANGE[0]:g} to {FPS_RANGE[1]:g} frames per second, got {self.fps}")
        if self.fit not in ("crop", "pad", "stretch"):
            near = nearest_hint(self.fit, ("crop", "pad", "stretch"))
            raise ValueError(f"fit must be crop, pad or stretch, got {self.fit!r}{near}")
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            near = nearest_hint(self.background, tuple(ImageColor.colormap))
            raise ValueError(f"background must be a colour or #rrggbb, got {self.background!r}{near}") from None

    @property
    def windowed(self) -> bool:
        """Clips are windows over the whole of each video."""
        return True

    def as_windows(self) -> Self:
        """These options: clips are windows already."""
        return self

    def apart(self) -> Self:
        """Clips that begin where the one before ends, also where a source begins them at every frame by itself."""
        return replace(self, stride=self.length)

    @property
    def rate(self) -> float:
        """Frames per second of every clip."""
        return FPS if self.fps is None else float(self.fps)

    @property
    def length(self) -> int:
        """Frames of every clip."""
        return self.frames or FRAMES

    @property
    def step(self) -> int:
        """Frames from the beginning of one clip to that of the next."""
        return self.stride or self.length

    @property
    def key(self) -> dict[str, Any]:
        """What is done without these options is left out, also where a person has written it."""
        usual = {"size": SIZE, "channels": 3, "frames": FRAMES, "fps": FPS, "stride": self.length}
        return {name: value for name, value in self.given.items() if value != usual.get(name)}
