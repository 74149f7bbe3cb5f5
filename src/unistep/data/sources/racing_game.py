"""Gymnasium's CarRacing, seen and driven as in the data: small frames, 25 a second, from a car that stands."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unistep.data.sources.shrinking import shrink

GAME_RATE = 50
"""Steps of the game per second."""
PICTURE = 96
"""Side of the square that the game draws, in pixels."""
SIZE, RATE = 64, 25
"""Side of frames in pixels, and frames per second, where nothing else is said."""
ROAD_WIDTH = 2 * 40 / 6
"""Width of the road, in the units of positions."""

_IN_SIGHT = 80.0  # units: the farthest corner of the picture, at 48, and the diagonal of a patch of grass, 24, and more


class RacingGame:
    """A car on a track of its own: what the data shows, to be driven by anyone.

    Steering to the left turns the wheels to their stop, 0.4 radians, in about 3 frames. Each action is held for
    several steps of the game. The game's first second, in which its picture zooms in, is left out: the car stands
    until then.

    Args:
        seed: Decides the track.
        start: Where on the lap the car stands at first, as a share of it in [0, 1).
        size: Side of the square frames in pixels, at most 96.
        held: Steps of the game, of which there are 50 a second, for which an action is held.

    Raises:
        ValueError: If Gymnasium's game is not installed.
    """

    def __init__(self, seed: int, *, start: float = 0.0, size: int = SIZE, held: int = GAME_RATE // RATE) -> None:
        self._seed, self._start, self._size, self._held = seed, start, size, held
        self._game = _car_racing()
        self._watched = False
        _draw_less(self._game, lambda: self._watched)
        self.reset()

    def reset(self) -> np.ndarray:
        """The same track from the start: its first frame, uint8 ``[size, size, 3]``."""
        from gymnasium.envs.box2d.car_dynamics import Car

        self._game.reset(seed=self._seed)
        self.track = np.array([[x, y] for _, _, x, y in self._game.track])
        """Points in the middle of the road, one after the other along the lap, float ``[n, 2]``."""
        at = int(self._start * len(self.track))
        self._game.car.destroy()
        self._game.car = Car(self._game.world, *self._game.track[at][1:4])
        for _ in range(GAME_RATE // self._held):
            self.advance((0.0, 0.0, 0.0))
        return self.frame

    def step(self, action: Sequence[float]) -> np.ndarray:
        """Go on by one frame.

        Args:
            action: Steering from -1 (left) to 1 (right), gas from 0 to 1 and brake from 0 to 1.

        Returns:
            The frame that this leads to, uint8 ``[size, size, 3]``.
        """
        self.advance(action)
        return self.frame

    def advance(self, action: Sequence[float]) -> None:
        """Go on by one frame without drawing it, which is much faster."""
        for _ in range(self._held):
            self._game.step(np.asarray(action, np.float64))

    @property
    def frame(self) -> np.ndarray:
        """What is seen now, uint8 ``[size, size, 3]``."""
        self._watched = True
        picture = self._game.render()
        self._watched = False
        return shrink(picture, self._size)

    @property
    def on_road(self) -> bool:
        """Whether at least one wheel touches the road."""
        return any(wheel.tiles for wheel in self._game.car.wheels)

    @property
    def position(self) -> tuple[float, float]:
        """Where the car is, in the units of :attr:`track`."""
        x, y = self._game.car.hull.position
        return float(x), float(y)

    @property
    def heading(self) -> float:
        """Which way the car points, in radians: 0 is along y, and it grows to the left."""
        return float(self._game.car.hull.angle)

    @property
    def turning(self) -> float:
        """How fast the heading grows, in radians per second."""
        return float(self._game.car.hull.angularVelocity)

    @property
    def speed(self) -> float:
        """Units per second along the heading; negative backwards."""
        x, y = self._game.car.hull.linearVelocity
        return float(-math.sin(self.heading) * x + math.cos(self.heading) * y)


def _draw_less(game: Any, watched: Callable[[], bool]) -> None:
    """Have the game draw only frames that are looked at, and of them what is in sight; the frames are the same.

    Args:
        game: A new one.
        watched: Whether a frame is looked at now; not in the first second, when more is in sight.
    """
    render, render_road, draw_polygon = game._render, game._render_road, game._draw_colored_polygon
    here = np.zeros(2)

    def render_watched(mode: str) -> Any:
        return render(mode) if watched() else None  # a step draws, which takes 50 times as long as all else

    def render_near(*arguments: Any) -> None:
        here[:] = game.car.hull.position
        road = game.road_poly
        corners = np.array([polygon[0] for polygon, _ in road])
        game.road_poly = [road[i] for i in np.flatnonzero(np.abs(corners - here).max(1) < _IN_SIGHT)]
        render_road(*arguments)
        game.road_poly = road

    def draw_near(surface: Any, polygon: Any, *rest: Any, **more: Any) -> None:
        x, y = polygon[0]
        # The ground alone is drawn with an option; none of its corners needs to be near.
        if more or (abs(x - here[0]) < _IN_SIGHT and abs(y - here[1]) < _IN_SIGHT):
            draw_polygon(surface, polygon, *rest, **more)

    game._render, game._render_road, game._draw_colored_polygon = render_watched, render_near, draw_near


def game_version() -> str:
    """Which version of the game is installed.

    Raises:
        ValueError: If none is.
    """
    from importlib.metadata import version
    from importlib.util import find_spec

    if not all(find_spec(name) for name in ("gymnasium", "Box2D", "pygame")):
        raise ValueError("racing needs Gymnasium with Box2D, which are not installed: pip install 'unistep[racing]'")
    return version("gymnasium")


def _car_racing() -> Any:
    game_version()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's classes warn as Box2D is loaded, and crash where that is an error
        from gymnasium.envs.box2d.car_racing import CarRacing

    return CarRacing(render_mode="state_pixels")
