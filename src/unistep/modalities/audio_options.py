"""How sound files become signals of one rate and length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from unistep.modalities.signal_options import SignalOptions, check_whole
from unistep.spelling import nearest_hint

Loudness = Literal["peak", "keep"]
"""Whether every sound is brought to the same peak, or left as loud as it is."""


@dataclass(frozen=True, kw_only=True)
class AudioOptions(SignalOptions):
    """Rate, length, channels and loudness of sounds."""

    sample_rate: int | None = None
    """Samples per second that sounds are brought to; 16000 by default."""
    seconds: float | None = None
    """Length that sounds are brought to; 1 by default."""
    channels: int | None = None
    """1 for mono, the default, or 2 for stereo."""
    cut: Literal["start", "windows"] = "start"
    """What is taken of each file of a folder: its beginning, or windows of that length over all of it, except those
    that are silent."""
    loudness: Loudness | None = None
    """Rule for the loudness: ``peak`` brings each sound to 1 dB below full scale, ``keep`` leaves it; by default
    ``peak``, and ``keep`` for notes and phrases, whose loudness means something."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        check_whole(sample_rate=self.sample_rate, channels=self.channels)
        if self.seconds is not None and (not isinstance(self.seconds, int | float) or isinstance(self.seconds, bool)):
            raise ValueError(f"seconds must be a number, got {self.seconds!r}")
        if self.sample_rate is not None and not 1_000 <= self.sample_rate <= 192_000:
            raise ValueError(f"sample_rate must be from 1000 to 192000 Hz, got {self.sample_rate}")
        if self.seconds is not None and not 0.01 <= self.seconds <= 600:
            raise ValueError(f"seconds must be from 0.01 to 600, got {self.seconds}")
        if self.channels not in (None, 1, 2):
            raise ValueError(f"channels of sounds must be 1 (mono) or 2 (stereo), got {self.channels}")
        if self.cut not in ("start", "windows"):
            near = nearest_hint(self.cut, ("start", "windows"))
            raise ValueError(f"cut must be start (its beginning) or windows (all of it), got {self.cut!r}{near}")
        if self.loudness not in (None, "peak", "keep"):
            raise ValueError(f"loudness must be peak or keep, got {self.loudness!r}")

    @property
    def windowed(self) -> bool:
        """Whether windows over all of each recording are taken."""
        return self.cut == "windows"

    def as_windows(self) -> Self:
        """The same options with windows of recordings as the items."""
        return replace(self, cut="windows")

    def as_written(self) -> Self:
        """The same options for files that hold finished items, which stay as loud as they are."""
        return replace(self, loudness="keep")

    @property
    def rate(self) -> int:
        """Samples per second of every sound."""
        return self.sample_rate or 16_000

    @property
    def samples(self) -> int:
        """Samples of every sound."""
        return max(1, round((1.0 if self.seconds is None else self.seconds) * self.rate))

    @property
    def key(self) -> dict[str, Any]:
        """What is done without these options is left out, also where a person has written it."""
        usual = {"sample_rate": 16_000, "seconds": 1, "channels": 1}
        return {name: value for name, value in self.given.items() if value != usual.get(name)}
