"""Who drives the cars of the racing data: along the road, at random, and now the one, now the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from unistep.data.sources.racing_game import RacingGame

KEYS: dict[str, tuple[float, float, float]] = {
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "gas": (0.0, 1.0, 0.0),
    "brake": (0.0, 0.0, 0.8),
}
"""What each key does, as (steering, gas, brake)."""
Action = tuple[float, float, float]
"""Steering from -1 (left) to 1 (right), gas and brake from 0 to 1."""

_NOTHING: Action = (0.0, 0.0, 0.0)
_HELD = (2, 2, 3)  # frames for which the key driver holds what it pressed, one of these
_FAR = 60.0  # units from the road from where on a random driver turns back, lest it leave the world


class Driver(ABC):
    """Decides what to do next in a game; may remember what it did before."""

    @abstractmethod
    def act(self, game: RacingGame) -> Action:
        """The action under which the next frame comes about."""


class ScriptedDriver(Driver):
    """Aims at a point ahead in the middle of the road, and brakes in time for bends.

    Args:
        generator: Decides how fast it drives, on which side of the middle, and how long it holds keys.
        keys: Whether it presses keys, in pulses, as people do; else steering and gas have all values.
    """

    def __init__(self, generator: np.random.Generator, *, keys: bool) -> None:
        self._generator, self._keys = generator, keys
        self._grip = generator.uniform(0.7, 1.0) * 50.0
        self._top = generator.uniform(35.0, 60.0)
        self._aside = generator.uniform(-2.0, 2.0)
        self._owed, self._left, self._pressed = np.zeros(2), 0, _NOTHING

    def act(self, game: RacingGame) -> Action:
        """Steer by the angle to the point ahead, less the turning that is under way."""
        steer, pace = self._wanted(game)
        sliding = abs(steer) > 0.6 and game.speed > 20  # driven wheels that turn a bend have no grip left for gas
        gas = 0.0 if sliding else min(max(0.1 * pace, 0.0), 0.6 if game.on_road else 0.3)
        brake = min(max(-0.06 * pace - 0.1, 0.0), 0.6)
        if not self._keys:
            return steer, gas, brake
        if self._left == 0:
            self._owed = np.clip(np.add(self._owed, (steer, gas)), -1, 1)
            down = np.where(np.abs(self._owed) > (0.7, 0.5), np.sign(self._owed), 0.0)
            self._owed -= down
            self._pressed = (float(down[0]), float(down[1]), 0.8 * float(pace < -6))
            self._left = int(self._generator.choice(_HELD))
        self._left -= 1
        return self._pressed

    def _wanted(self, game: RacingGame) -> tuple[float, float]:
        """Steering, and by how much to go faster."""
        track, here = game.track, np.array(game.position)
        at = int(np.argmin(np.square(track - here).sum(1)))
        ahead = np.roll(track, -at, axis=0)
        steps = np.diff(ahead[:26], axis=0)
        angles = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        length = float(np.hypot(*steps.T).mean())
        speed = max(game.speed, 0.0)
        reach = int(np.clip((7.0 + 0.30 * speed) / length, 2, 12))
        side = self._aside * np.array([-math.sin(angles[reach]), math.cos(angles[reach])])
        x, y = ahead[reach] + side - here
        error = _wrapped(math.atan2(-x, y) - game.heading)  # to the left
        steer = float(np.clip(-2.4 * error + 0.12 * game.turning, -1, 1))
        bends = np.abs(angles[3:] - angles[:-3]) / (3 * length)  # curvature, per unit
        room = length * np.arange(1, len(bends) + 1)  # to brake in
        limits = np.sqrt(self._grip / np.maximum(bends, 1e-3) + 2 * 18.0 * np.maximum(room - 6.0, 0))
        return steer, min(self._top, float(limits.min())) * (1.0 if abs(error) < 1 else 0.4) - speed


class RandomDriver(Driver):
    """Holds keys, and pairs of keys, for a while without looking; turns back when the road is far away.

    Args:
        generator: Decides which keys and how long.
    """

    _CHOICES = ("none", "left", "right", "gas", "gas", "brake", "left+gas", "right+gas", "left+brake", "right+brake")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._back = ScriptedDriver(generator, keys=True)
        self._left, self._pressed, self._returning = 0, _NOTHING, False

    def act(self, game: RacingGame) -> Action:
        """The keys that are held, or the way back."""
        off = math.sqrt(float(np.square(game.track - np.array(game.position)).sum(1).min()))
        self._returning = off > _FAR or (self._returning and off > 5)
        if self._returning:
            return self._back.act(game)
        if self._left == 0:
            self._left = int(self._generator.integers(5, 41))
            self._pressed = pressed(str(self._generator.choice(self._CHOICES)))
        self._left -= 1
        return self._pressed


class MixedDriver(Driver):
    """Drives along the road, with spells of random keys, from which it finds back.

    Args:
        generator: Decides when and what.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._careful = ScriptedDriver(generator, keys=generator.random() < 2 / 3)
        self._careless = RandomDriver(generator)
        self._left, self._wild = int(generator.integers(25, 100)), False

    def act(self, game: RacingGame) -> Action:
        """One of the two, for a while each."""
        if self._left == 0:
            self._wild = not self._wild
            self._left = int(self._generator.integers(8, 36) if self._wild else self._generator.integers(40, 110))
        self._left -= 1
        return (self._careless if self._wild else self._careful).act(game)


def pressed(keys: str) -> Action:
    """The action of several keys at a time, such as ``left+gas``; of ``none``, nothing."""
    down = [KEYS[key] for key in keys.split("+") if key != "none"]
    steer, gas, brake = (sum(values) for values in zip(*down, strict=True)) if down else _NOTHING
    return steer, gas, brake


def _wrapped(angle: float) -> float:
    """The same angle from -pi to pi."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
