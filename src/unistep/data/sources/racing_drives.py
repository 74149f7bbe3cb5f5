"""Recording drives: frames and the actions under which they came about, by a process of its own for each drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from unistep.data.sources.racing_drivers import Driver, MixedDriver, RandomDriver, ScriptedDriver
from unistep.data.sources.racing_game import RacingGame
from unistep.data.sources.recording_apart import Played, record_apart, write_recorded

DRIVERS: dict[str, Callable[[np.random.Generator], Driver]] = {
    "scripted": lambda generator: ScriptedDriver(generator, keys=generator.random() < 2 / 3),
    "mixed": MixedDriver,
    "random": RandomDriver,
}
"""Drivers by name."""


@dataclass(frozen=True, kw_only=True)
class Drive:
    """Part of what a driver does on a track, which nothing else decides."""

    driver: str
    """Name of the driver."""
    seed: int
    """Decides the track, where on it the car starts, and what the driver does."""
    first: int
    """First frame that is recorded; those before are driven and not drawn."""
    frames: int
    """How many are recorded."""
    size: int
    """Side of the frames, in pixels."""
    held: int
    """Steps of the game from one frame to the next."""

    def record(self) -> Played:
        """Drive it.

        Returns:
            Frames, uint8 ``[frames, 3, size, size]``, and the action under which each came about, float32
            ``[frames, 3]``.

        Raises:
            ValueError: If the game is not installed.
        """
        generator = np.random.default_rng([self.seed, 1])  # another one than the track's
        game = RacingGame(self.seed, start=generator.random(), size=self.size, held=self.held)
        driver = DRIVERS[self.driver](generator)
        frames = np.empty((self.frames, 3, self.size, self.size), np.uint8)
        actions = np.zeros((self.frames, 3), np.float32)
        for j in range(-self.first, self.frames):
            # The car of the very first frame has stood for a second, and nobody did anything.
            action = (0.0, 0.0, 0.0) if j == -self.first else driver.act(game)
            if j > -self.first:
                game.advance(action)
            if j >= 0:
                frames[j], actions[j] = game.frame.transpose(2, 0, 1), action
        return frames, actions


def record_drive(drive: Drive) -> Played:
    """The same as :meth:`Drive.record`, by a process of its own.

    Raises:
        ValueError: If the process fails; says how.
    """
    return record_apart(__name__, asdict(drive), "a drive of racing")


if __name__ == "__main__":
    write_recorded(lambda settings: Drive(**settings).record())
