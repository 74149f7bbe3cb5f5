"""Recording drives: frames and the actions under which they came about, by a process of its own for each drive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from unistep.data.sources.racing_drivers import Driver, MixedDriver, RandomDriver, ScriptedDriver
from unistep.data.sources.racing_game import RacingGame

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

    def record(self) -> tuple[np.ndarray, np.ndarray]:
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


def record_apart(drive: Drive) -> tuple[np.ndarray, np.ndarray]:
    """The same as :meth:`Drive.record`, by another process, since the game holds the interpreter's lock.

    Several threads may call this at once. The process starts from its module, not from the program that runs, so
    that no program needs a guard against being started again.

    Raises:
        ValueError: If the process fails; says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "drive.npz"
        command = [sys.executable, "-m", __name__, json.dumps(asdict(drive)), str(to)]
        paths = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
        if done.returncode or not to.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"a drive of racing could not be recorded ({last})")
        with np.load(to) as found:
            return found["frames"], found["actions"]


def _main(written: str, to: str) -> None:
    frames, actions = Drive(**json.loads(written)).record()
    np.savez(to, frames=frames, actions=actions)


if __name__ == "__main__":
    _main(*sys.argv[1:])
