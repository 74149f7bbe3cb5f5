"""Who plays in the doom data: with an eye to what is there, at random, and now the one, now the other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter

import numpy as np

from unistep.data.sources.doom_game import DoomGame, Thing

Action = tuple[float, float, float, float]
"""Walking from -1 (back) to 1, sidestepping and turning from -1 (left) to 1, and attacking, 0 or 1."""
KEYS: dict[str, Action] = {
    "forward": (1.0, 0.0, 0.0, 0.0),
    "back": (-1.0, 0.0, 0.0, 0.0),
    "left": (0.0, 0.0, -1.0, 0.0),
    "right": (0.0, 0.0, 1.0, 0.0),
    "strafe-left": (0.0, -1.0, 0.0, 0.0),
    "strafe-right": (0.0, 1.0, 0.0, 0.0),
    "attack": (0.0, 0.0, 0.0, 1.0),
}
"""What each key does."""

_NOTHING: Action = (0.0, 0.0, 0.0, 0.0)
_WAYS = np.linspace(-math.pi, math.pi, 48, endpoint=False)
_ITEMS = frozenset({"Health", "Armor", "Ammo", "Weapon", "Powerup"})
_NEAR = 40.0  # units from a goal from where on a player looks for another one, and from the goal to a wall
_CELL = 96.0  # units: the side of the squares of which a player remembers how long it has been there
_PATIENCE = 70  # frames after which a player gives up an item that it does not reach, and for which it then ignores all


class Player(ABC):
    """Decides what to do next in a game; may remember what it did before."""

    @abstractmethod
    def act(self, game: DoomGame) -> Action:
        """The action under which the next frame comes about."""


class ScriptedPlayer(Player):
    """Walks to where there is room, and to things that can be taken; faces monsters, and shoots where it can.

    Args:
        generator: Decides which way to go, and for how long to do what.
        keys: Whether it presses keys alone; else turning and walking have all values.
    """

    def __init__(self, generator: np.random.Generator, *, keys: bool) -> None:
        self._generator, self._keys = generator, keys
        self._goal, self._left = (math.inf, math.inf), 0  # where to, and for how many frames at most
        self._fleeing = self._chasing = self._ignoring = 0
        self._strafe, self._trigger, self._spell = 0.0, 0.0, 0
        self._visits: Counter[tuple[int, int]] = Counter()
        self._last, self._walked, self._pushing = (math.inf, math.inf), False, 0

    def act(self, game: DoomGame) -> Action:
        """Face a monster, or go to an item, or go on, or look for another way."""
        self._spell -= 1
        if self._spell <= 0:
            self._strafe = float(self._generator.choice((-1, -1, 0, 1, 1)))
            self._trigger = float(self._generator.random() < 0.7)
            self._spell = int(self._generator.integers(6, 24))
        seen = game.things
        monsters = [thing for thing in seen if thing.kind == "Monster"]
        stuck = self._is_stuck(game)
        self._fleeing = 15 if stuck else self._fleeing - 1
        if monsters and self._fleeing <= 0:
            return self._face(game, _nearest(game, monsters))
        return self._walk(game, [thing for thing in seen if thing.kind in _ITEMS], stuck)

    def _face(self, game: DoomGame, monster: Thing) -> Action:
        """Turn to a monster, keep away from it, step aside, and shoot."""
        far, error = _towards(game, (monster.x, monster.y))
        aimed = abs(error) < math.radians(6)
        move = -1.0 if far < 150 else float(far > 500 and game.armed and self._strafe == 0)
        return self._pressed(game, error, move, self._strafe, self._trigger * float(aimed and game.armed))

    def _walk(self, game: DoomGame, items: list[Thing], stuck: bool) -> Action:
        """Go on to the goal; choose another one where it is reached, or cannot be, and any item that is in sight."""
        self._left -= 1
        self._ignoring -= 1
        self._visits[_cell(*game.position)] += 1
        if items and self._ignoring <= 0 and self._fleeing <= 0:
            self._chasing += 1
            if self._chasing > _PATIENCE:
                self._chasing, self._ignoring = 0, _PATIENCE
            nearest = _nearest(game, items)
            self._goal, self._left = (nearest.x, nearest.y), 1
        elif stuck or self._left <= 0 or math.dist(game.position, self._goal) < _NEAR:
            self._choose(game)
        _, error = _towards(game, self._goal)
        ahead = float(game.room(np.array([game.heading]))[0])
        move = float(abs(error) < math.radians(25) or (abs(error) < math.radians(100) and ahead > 2 * _NEAR))
        return self._pressed(game, error, move, 0.0, 0.0)

    def _choose(self, game: DoomGame) -> None:
        """Another goal, the likelier the farther it is, the less it is behind, and the less it is known."""
        ways, (x, y) = _WAYS + game.heading, game.position
        room = np.minimum(game.room(ways), 600.0)
        far = self._generator.uniform(0.7, 1.0) * np.maximum(room - _NEAR, 1.0)
        goals = list(zip(x + far * np.cos(ways), y + far * np.sin(ways), strict=True))
        known = np.array([self._visits[_cell(*goal)] for goal in goals])
        likely = np.square(far) * np.exp(-np.abs(_WAYS)) / (1 + known)
        self._goal = goals[int(self._generator.choice(len(goals), p=likely / likely.sum()))]
        self._left, self._chasing = int(self._generator.integers(40, 90)), 0

    def _is_stuck(self, game: DoomGame) -> bool:
        """Whether it has been walking for some frames and got nowhere."""
        still = math.dist(game.position, self._last) < 1.5
        self._last = game.position
        self._pushing = self._pushing + 1 if still and self._walked else 0
        if self._pushing < 6:
            return False
        self._pushing = 0
        return True

    def _pressed(self, game: DoomGame, error: float, move: float, strafe: float, attack: float) -> Action:
        """The action that turns by an angle to the left, as far as it can."""
        self._walked = move != 0
        turn = -error / game.turn_step
        if self._keys:
            return move, strafe, float(np.sign(turn)) if abs(turn) > 0.6 else 0.0, attack
        return move * max(math.cos(error), 0.4), strafe, float(np.clip(0.5 * turn, -1, 1)), attack


class RandomPlayer(Player):
    """Holds keys, and pairs of keys, for a while without looking.

    Args:
        generator: Decides which keys and how long.
    """

    _CHOICES = (
        *("none", "forward", "forward", "forward", "back", "left", "left", "right", "right"),
        *("forward+left", "forward+left", "forward+right", "forward+right", "back+left", "back+right"),
        *("strafe-left", "strafe-right", "forward+strafe-left", "forward+strafe-right"),
        *("strafe-left+right", "strafe-right+left"),
    )
    _ARMED = (*_CHOICES, *("attack", "attack", "forward+attack", "left+attack", "right+attack", "strafe-left+attack"))

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._left, self._held = 0, _NOTHING

    def act(self, game: DoomGame) -> Action:
        """The keys that are held."""
        if self._left == 0:
            self._left = int(self._generator.integers(5, 31))
            self._held = pressed(str(self._generator.choice(self._ARMED if game.armed else self._CHOICES)))
        self._left -= 1
        return self._held


class MixedPlayer(Player):
    """Plays with an eye to what is there, with spells of random keys.

    Args:
        generator: Decides when and what.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._careful = ScriptedPlayer(generator, keys=generator.random() < 2 / 3)
        self._careless = RandomPlayer(generator)
        self._left, self._wild = int(generator.integers(25, 100)), False

    def act(self, game: DoomGame) -> Action:
        """One of the two, for a while each."""
        if self._left == 0:
            self._wild = not self._wild
            self._left = int(self._generator.integers(15, 60) if self._wild else self._generator.integers(40, 110))
        self._left -= 1
        return (self._careless if self._wild else self._careful).act(game)


def pressed(keys: str) -> Action:
    """The action of several keys at a time, such as ``left+forward``; of ``none``, nothing."""
    down = [KEYS[key] for key in keys.split("+") if key != "none"]
    move, strafe, turn, attack = (sum(values) for values in zip(*down, strict=True)) if down else _NOTHING
    return move, strafe, turn, attack


def _nearest(game: DoomGame, things: list[Thing]) -> Thing:
    return min(things, key=lambda thing: math.dist(game.position, (thing.x, thing.y)))


def _towards(game: DoomGame, goal: tuple[float, float]) -> tuple[float, float]:
    """How far away a point is, and by what angle to the left to turn to it."""
    x, y = game.position
    return math.dist((x, y), goal), _wrapped(math.atan2(goal[1] - y, goal[0] - x) - game.heading)


def _cell(x: float, y: float) -> tuple[int, int]:
    return int(x // _CELL), int(y // _CELL)


def _wrapped(angle: float) -> float:
    """The same angle from -pi to pi."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
