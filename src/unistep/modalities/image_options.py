"""How image files become images of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unistep.modalities.signal_options import SignalOptions, check_text, check_whole
from unistep.spelling import nearest_hint

Fit = Literal["crop", "pad", "stretch"]
"""How an image of another shape is brought to the size."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions(SignalOptions):
    """Size, colours and the rule for images of another shape."""

    size: int | None = None
    """Side of the square images, in pixels; by default that of the source where it has one, else 32."""
    channels: int | None = None
    """1 for grey, 3 for RGB; by default those of the source, where a folder of grey images has 1."""
    fit: Fit = "crop"
    """Rule for images of another shape: centred ``crop``, ``pad`` with the background, or ``stretch``."""
    background: str = "white"
    """Colour behind transparent pixels and around padded images, as a name or ``#rrggbb``."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        from PIL import ImageColor

        check_text({"fit": "crop", "background": "white"}, fit=self.fit, background=self.background)
        check_whole(size=self.size, channels=self.channels)
        if self.size is not None and not 1 <= self.size <= 8192:
            raise ValueError(f"size must be from 1 to 8192 pixels, got {self.size}")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels of images must be 1 (grey) or 3 (RGB), got {self.channels}")
        if self.fit not in ("crop", "pad", "stretch"):
            near = nearest_hint(self.fit, ("crop", "pad", "stretch"))
            raise ValueError(f"fit must be crop, pad or stretch, got {self.fit!r}{near}")
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            near = nearest_hint(self.background, tuple(ImageColor.colormap))
            raise ValueError(f"background must be a colour or #rrggbb, got {self.background!r}{near}") from None
