"""What data to train on or compare with, and how its pictures or sounds become one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unistep.spelling import nearest_hint

Fit = Literal["crop", "pad", "stretch"]
SOUNDS = ("notes", "phrases", "drums", "spoken-digits")
"""Sources that have sounds only."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A source of pictures or sounds and the rules that bring them to one shape."""

    source: str = "fashion-mnist"
    """``fashion-mnist[:SPLIT]``, ``folder:PATH``, ``npz:FILE`` or ``hf:NAME[:SPLIT]``; for sounds ``folder:PATH``,
    ``notes[:SPLIT]``, ``phrases[:SPLIT]``, ``drums`` or ``spoken-digits``."""
    kind: Literal["picture", "sound"] | None = None
    """What to take from a folder; without, whichever more of its files claim to be."""
    split: str = "train"
    """Part of a source that has parts: ``train`` or ``test`` for Fashion-MNIST; a part named in the source wins."""
    size: int | None = None
    """Side of the square pictures, in pixels; by default that of the source where it has one, else 32."""
    channels: int | None = None
    """1 for grey, 3 for RGB; by default those of the source, where a folder of grey pictures has 1. Of sounds 1 for
    mono, the default, or 2 for stereo."""
    fit: Fit = "crop"
    """Rule for pictures of another shape: centred ``crop``, ``pad`` with the background, or ``stretch``."""
    background: str = "white"
    """Colour behind transparent pixels and around padded pictures, as a name or ``#rrggbb``."""
    sample_rate: int | None = None
    """Samples per second that sounds are brought to; 16000 by default."""
    seconds: float | None = None
    """Length that sounds are brought to; 1 by default."""
    cut: Literal["start", "windows"] = "start"
    """What is taken of each file of a folder of sounds: its beginning, or windows of that length over all of it, each
    beginning where the one before is half over, except those that are silent."""
    loudness: Literal["peak", "keep"] | None = None
    """Rule for the loudness of sounds: ``peak`` brings each to 1 dB below full scale, ``keep`` leaves it; by default
    ``peak``, and ``keep`` for notes and phrases, whose loudness means something."""
    max_bad: float = 0.2
    """Largest share of unusable files, in [0, 1]; with more of them preparing stops with an error."""
    limit: int | None = None
    """Use at most so many pictures or sounds, spread evenly over the source."""

    def __post_init__(self) -> None:
        """Check every field but the source, which is checked when it is opened.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        from PIL import ImageColor

        words = {"source": "folder:PATH", "split": "train", "fit": "crop", "background": "white"}
        for name, usual in words.items():
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a text such as {usual}, got {getattr(self, name)!r}")
        for name in ("size", "channels", "sample_rate", "limit"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
        for name, value in (("seconds", 1.0 if self.seconds is None else self.seconds), ("max_bad", self.max_bad)):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{name} must be a number, got {value!r}")
        if self.size is not None and not 1 <= self.size <= 8192:
            raise ValueError(f"size must be from 1 to 8192 pixels, got {self.size}")
        if self.channels not in (None, 1, 3) and not (self.channels == 2 and self.of_sounds):
            raise ValueError(
                f"channels must be 1 (grey) or 3 (RGB), of sounds (kind sound) 1 or 2 (stereo), got {self.channels}"
            )
        if self.kind not in (None, "picture", "sound"):
            raise ValueError(f"kind must be picture or sound, got {self.kind!r}")
        if self.sample_rate is not None and not 1_000 <= self.sample_rate <= 192_000:
            raise ValueError(f"sample_rate must be from 1000 to 192000 Hz, got {self.sample_rate}")
        if self.seconds is not None and not 0.01 <= self.seconds <= 600:
            raise ValueError(f"seconds must be from 0.01 to 600, got {self.seconds}")
        if self.cut not in ("start", "windows"):
            near = nearest_hint(self.cut, ("start", "windows"))
            raise ValueError(f"cut must be start (its beginning) or windows (all of it), got {self.cut!r}{near}")
        if self.loudness not in (None, "peak", "keep"):
            raise ValueError(f"loudness must be peak or keep, got {self.loudness!r}")
        if self.fit not in ("crop", "pad", "stretch"):
            near = nearest_hint(self.fit, ("crop", "pad", "stretch"))
            raise ValueError(f"fit must be crop, pad or stretch, got {self.fit!r}{near}")
        if not 0 <= self.max_bad <= 1:
            raise ValueError(f"max_bad is a share of pictures, from 0 to 1, got {self.max_bad}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 picture, got {self.limit}")
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            near = nearest_hint(self.background, tuple(ImageColor.colormap))
            raise ValueError(f"background must be a colour or #rrggbb, got {self.background!r}{near}") from None

    @property
    def of_sounds(self) -> bool:
        """Whether these are known to be sounds without a look at them."""
        return self.kind == "sound" or is_sound_source(self.source)


def is_sound_source(source: str) -> bool:
    """Whether a source has sounds only."""
    return source.partition(":")[0] in SOUNDS
