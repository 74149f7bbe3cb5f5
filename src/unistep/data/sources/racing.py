"""Drives on the race tracks of Gymnasium's CarRacing: frames, and the action under which each came about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from unistep.core.action_fields import ActionField
from unistep.core.condition import AnyField
from unistep.core.seeding import derived_seed
from unistep.data.options import DataConfig
from unistep.data.sources.base import Source, SourceManifest
from unistep.data.sources.plays import Part, windows_of
from unistep.data.sources.racing_drivers import KEYS
from unistep.data.sources.racing_drives import DRIVERS, Drive, record_drive
from unistep.data.sources.racing_game import GAME_RATE, PICTURE, RATE, SIZE, game_version
from unistep.data.sources.recording_apart import Played
from unistep.modalities.video_options import FRAMES, VideoOptions
from unistep.spelling import nearest_hint

DRIVES = {"train": 60, "test": 10}
"""Drives of each split, each on a track of its own."""
LENGTH = 500
"""Frames of a drive; clips that are longer are drives of their own length, which begin alike."""
LONGEST = 10_000
"""Longest drive."""
LICENCE = "MIT (CarRacing of Gymnasium, Farama Foundation; driven by Unistep)"
"""Of the game, whose pictures the frames are."""
FIELDS: dict[str, AnyField] = {
    "action": ActionField(names=("steer", "gas", "brake"), low=(-1, 0, 0), high=(1, 1, 1), presets=KEYS)
}
"""What every window says of each of its frames."""

_TURNS = ("scripted", "mixed", "scripted", "mixed", "random", "scripted", "mixed", "scripted", "mixed", "scripted")
"""Who drives, over and over: so that the car is also seen beside the road, skidding, standing and turning round."""
_VERSION = 1  # of how drives come about: another one is other data


@dataclass(frozen=True, kw_only=True)
class Racing(Source):
    """Drives of 500 frames, 64 pixels wide and 25 a second unless the options say otherwise.

    An action is held for 2 of the game's 50 steps a second; another frame rate, which has to divide 50, holds it for
    as many as it needs. The first second, in which the game's picture zooms in, is left out. Frames are means over the
    area of each pixel. A drive is stored once; an example is a window of it, and begins ``stride`` frames after the
    one before, 1 by default, always there: its actions are known for that place alone. The action of a frame is the
    one under which it came about from the frame before; that of a drive's first frame is none. Where clips of more
    than 500 frames are asked for, each is a drive, which goes on for as long.

    Tracks of the test split have odd seeds, the others even ones.
    """

    modality: ClassVar[str | None] = "video"
    usage: ClassVar[str] = "racing"
    splits: ClassVar[tuple[str, ...]] = tuple(DRIVES)

    split: str
    """``train`` or ``test``."""
    driver: str | None = None
    """Name of the driver whose drives are taken; by default all."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """A driver, a split, or both with a colon.

        Raises:
            ValueError: For any other word.
        """
        del downloads
        split, driver = config.split, None
        for word in filter(None, rest.split(":")):
            if word in DRIVES:
                split = word
            elif word in DRIVERS:
                driver = word
            else:
                known = (*DRIVES, *DRIVERS)
                raise ValueError(f"racing has {', '.join(known)}, got {word!r}{nearest_hint(word, known)}")
        if split not in DRIVES:
            raise ValueError(f"racing has the splits train and test, got {split!r}{nearest_hint(split, tuple(DRIVES))}")
        return cls(split=split, driver=driver)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return f"racing{f':{self.driver}' if self.driver else ''}:{self.split}"

    def identity(self) -> dict[str, Any]:
        """Which drives, and the version of the game.

        Raises:
            ValueError: If the game is not installed.
        """
        return {"racing": _VERSION, "drives": self._numbers(), "split": self.split, "game": game_version()}

    def filled(self, config: DataConfig) -> DataConfig:
        """64 pixels, 25 frames a second, windows of 16 frames at every frame."""
        usual = {"size": SIZE, "fps": float(RATE), "frames": FRAMES, "stride": 1}
        options: VideoOptions = config.options_for(self.modality_of(config))
        return replace(config, options=VideoOptions(**{**usual, **options.given}))

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to drive.

        Raises:
            ValueError: If the game is not installed, or cannot have such frames.
        """
        game_version()
        config = self.filled(config)
        options: VideoOptions = config.options_for(self.modality_of(config))
        held = GAME_RATE / options.rate
        if not held.is_integer():
            raise ValueError(f"racing has {GAME_RATE} steps a second, got fps {options.rate:g}; try {RATE}")
        side = options.size or SIZE
        if side > PICTURE:
            raise ValueError(f"racing has frames of at most {PICTURE} pixels, got size {side}; try {SIZE}")
        if options.length > LONGEST:
            raise ValueError(
                f"racing has drives of at most {LONGEST:,} frames, got clips of {options.length}; try {FRAMES}"
            )

        def record(part: Part) -> Played:
            driver, seed = _driver(part.number), seed_of(self.split, part.number)
            return record_drive(
                Drive(driver=driver, seed=seed, first=part.first, frames=part.frames, size=side, held=int(held))
            )

        return windows_of(
            self._numbers(),
            max(LENGTH, options.length),
            options=options,
            side=side,
            limit=config.limit,
            name=lambda number: f"{_driver(number)} {number}",
            record=record,
            fields=FIELDS,
            licence=LICENCE,
        )

    def _numbers(self) -> list[int]:
        every = range(DRIVES[self.split])
        return [number for number in every if self.driver in (None, _driver(number))]


def seed_of(split: str, number: int) -> int:
    """The seed of a drive and its track; no seed belongs to two splits."""
    return derived_seed("racing", split, number) // 2 * 2 + list(DRIVES).index(split)


def _driver(number: int) -> str:
    return _TURNS[number % len(_TURNS)]
