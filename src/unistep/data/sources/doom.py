"""Episodes of ViZDoom with Freedoom's pictures: frames, and the action under which each came about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from unistep.core.action_fields import ActionField
from unistep.core.condition import AnyField
from unistep.core.seeding import derived_seed
from unistep.data.options import DataConfig
from unistep.data.sources.base import Source, SourceManifest
from unistep.data.sources.doom_episodes import PLAYERS, Episode, record_episode
from unistep.data.sources.doom_game import GAME_RATE, PICTURE, RATE, SCENARIOS, SIZE, game_version
from unistep.data.sources.doom_players import KEYS
from unistep.data.sources.plays import Part, windows_of
from unistep.data.sources.recording_apart import Played
from unistep.modalities.video_options import FRAMES, VideoOptions
from unistep.spelling import nearest_hint

EPISODES = {"train": 60, "test": 10}
"""Episodes of each split of a scenario, each with a seed of its own."""
LENGTH = 500
"""Frames of an episode."""
SCENARIO = next(iter(SCENARIOS))
"""The one that is taken where none is named."""
LICENCE = "art BSD-3-Clause (Freedoom and its contributors), levels MIT (ViZDoom, Farama Foundation; played by Unistep)"
"""Of what the frames show."""
FIELDS: dict[str, AnyField] = {
    "action": ActionField(
        names=("move", "strafe", "turn", "attack"), low=(-1, -1, -1, 0), high=(1, 1, 1, 1), presets=KEYS
    )
}
"""What every window says of each of its frames; the same in all scenarios."""

_TURNS = ("scripted", "mixed", "scripted", "mixed", "random", "scripted", "mixed", "scripted", "mixed", "scripted")
"""Who plays, over and over: so that walls are also run into, and what is walked to is also passed by."""
_VERSION = 1  # of how episodes come about: another one is other data


@dataclass(frozen=True, kw_only=True)
class Doom(Source):
    """Episodes of 500 frames, 64 pixels wide and 17.5 a second unless the options say otherwise.

    An action is held for 2 of the game's 35 steps a second; another frame rate, of which 35 is a multiple, holds it
    for as many as it needs. The first 21 steps, in which a weapon is raised, are left out. Frames are means over the
    area of each pixel. An episode is stored once; an example is a window of it, and begins ``stride`` frames after the
    one before, 1 by default, always there: its actions are known for that place alone. The action of a frame is the
    one under which it came about from the frame before; that of an episode's first frame is none.

    The levels of a scenario are the same in both splits. Episodes of the test split have odd seeds, the others even
    ones.
    """

    modality: ClassVar[str | None] = "video"
    usage: ClassVar[str] = "doom"
    splits: ClassVar[tuple[str, ...]] = tuple(EPISODES)

    split: str
    """``train`` or ``test``."""
    scenario: str = SCENARIO
    """Name of the scenario, as ViZDoom has it."""
    player: str | None = None
    """Name of the player whose episodes are taken; by default all."""

    @classmethod
    def named(cls, rest: str, config: DataConfig, downloads: Path) -> Self:
        """A scenario, a player, a split, or several with colons.

        Raises:
            ValueError: For any other word.
        """
        del downloads
        split, player = config.split, None
        for word in filter(None, rest.split(":")):
            if word in EPISODES:
                split = word
            elif word in PLAYERS:
                player = word
            elif word not in SCENARIOS:
                known = (*EPISODES, *SCENARIOS, *PLAYERS)
                raise ValueError(f"doom has {', '.join(known)}, got {word!r}{nearest_hint(word, known)}")
        if split not in EPISODES:
            raise ValueError(f"doom has the splits train and test, got {split!r}{nearest_hint(split, tuple(EPISODES))}")
        return cls(split=split, scenario=scenario_of(rest), player=player)

    @property
    def name(self) -> str:
        """As a person writes it."""
        return ":".join(("doom", self.scenario, *([self.player] if self.player else []), self.split))

    def identity(self) -> dict[str, Any]:
        """Which episodes, and the version of the game.

        Raises:
            ValueError: If the game is not installed.
        """
        return {
            "doom": _VERSION,
            "scenario": self.scenario,
            "episodes": self._numbers(),
            "split": self.split,
            "game": game_version(),
        }

    def filled(self, config: DataConfig) -> DataConfig:
        """64 pixels, 17.5 frames a second, windows of 16 frames at every frame."""
        usual = {"size": SIZE, "fps": RATE, "frames": FRAMES, "stride": 1}
        options: VideoOptions = config.options_for(self.modality_of(config))
        return replace(config, options=VideoOptions(**{**usual, **options.given}))

    def open(self, config: DataConfig) -> SourceManifest:
        """Get ready to play.

        Raises:
            ValueError: If the game is not installed, or cannot have such frames.
        """
        game_version()
        config = self.filled(config)
        options: VideoOptions = config.options_for(self.modality_of(config))
        held = GAME_RATE / options.rate
        if not held.is_integer():
            raise ValueError(f"doom has {GAME_RATE} steps a second, got fps {options.rate:g}; try {RATE:g}")
        side = options.size or SIZE
        if side > PICTURE:
            raise ValueError(f"doom has frames of at most {PICTURE} pixels, got size {side}; try {SIZE}")
        if options.length > LENGTH:
            raise ValueError(f"doom has episodes of {LENGTH} frames, got clips of {options.length}; try {FRAMES}")

        def record(part: Part) -> Played:
            return record_episode(
                Episode(
                    scenario=self.scenario,
                    player=_player(part.number),
                    seed=seed_of(self.scenario, self.split, part.number),
                    first=part.first,
                    frames=part.frames,
                    size=side,
                    held=int(held),
                )
            )

        return windows_of(
            self._numbers(),
            LENGTH,
            options=options,
            side=side,
            limit=config.limit,
            name=lambda number: f"{_player(number)} {number}",
            record=record,
            fields=FIELDS,
            licence=LICENCE,
        )

    def _numbers(self) -> list[int]:
        every = range(EPISODES[self.split])
        return [number for number in every if self.player in (None, _player(number))]


def scenario_of(rest: str) -> str:
    """The scenario that the name of such data has after its first colon, or the usual one."""
    return next((word for word in rest.split(":") if word in SCENARIOS), SCENARIO)


def seed_of(scenario: str, split: str, number: int) -> int:
    """The seed of an episode, of 32 bits as the game takes; no seed belongs to two splits."""
    return derived_seed("doom", scenario, split, number) % 2**31 * 2 + list(EPISODES).index(split)


def _player(number: int) -> str:
    return _TURNS[number % len(_TURNS)]
