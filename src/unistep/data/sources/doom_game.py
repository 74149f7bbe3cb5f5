"""ViZDoom with the free pictures of Freedoom, seen and played as in the data: small frames, 17.5 a second."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unistep.data.sources.shrinking import shrink

GAME_RATE = 35
"""Steps of the game per second."""
PICTURE = 120
"""Side of the square that is taken out of the middle of the game's picture, in pixels."""
SIZE, RATE = 64, 17.5
"""Side of frames in pixels, and frames per second, where nothing else is said."""
SCENARIOS: dict[str, tuple[str, ...]] = {
    "my_way_home": ("remove GreenArmor",),  # where it is reached the level ends
    "health_gathering": (),
    "take_cover": (),
    "deathmatch": (),
}
"""Scenarios by the names that ViZDoom has for them, and the console commands with which they begin."""
ARMED = frozenset({"deathmatch"})
"""Scenarios in which the player has weapons."""
TURN = 640 / 65536 * 360
"""Degrees in a step of the game while a key for turning is down."""

_FORWARD, _SIDE = 25.0, 24.0  # what the keys for walking do, in the game's units
_VIEW = 2 * math.degrees(math.atan(160 / PICTURE))  # of all of the picture, so that the square shows 90 degrees
_QUIET = 21  # steps at the start: the level waits for 7, and a weapon comes up
_CONSOLE = ("buddha2", "sv_infiniteammo 1")  # health does not fall below 1, and shots do not run out
_BODY = 17.0  # units from the middle of the player to its side, and a little more


class Thing(NamedTuple):
    """Something in sight."""

    name: str
    """Class of the game, such as ``Medikit``."""
    kind: str
    """Its category, such as ``Monster``, ``Health`` or ``Weapon``."""
    x: float
    """Where it is, in the units of positions."""
    y: float
    """As ``x``."""


class DoomGame:
    """A level to walk around in: what the data shows, to be played by anyone.

    Nobody dies, shots do not run out, and nothing ends. The numbers on the screen are left out. The turning keys turn
    by 3.5 degrees in a step, and the walking keys reach 8.3 units a step.

    Args:
        seed: Decides where the player starts and all else that chance decides.
        scenario: One of ``SCENARIOS``.
        size: Side of the square frames in pixels, at most 120.
        held: Steps of the game, of which there are 35 a second, for which an action is held.

    Raises:
        ValueError: If ViZDoom is not installed.
    """

    def __init__(
        self, seed: int, *, scenario: str = "my_way_home", size: int = SIZE, held: int = int(GAME_RATE / RATE)
    ) -> None:
        self._seed, self._size, self._held, self._commands = seed, size, held, SCENARIOS[scenario]
        self.armed = scenario in ARMED
        """Whether attacking does anything."""
        self._game = _vizdoom(scenario)
        self.reset()

    def close(self) -> None:
        """End the game's process."""
        self._game.close()

    def reset(self) -> np.ndarray:
        """The same level from the start: its first frame, uint8 ``[size, size, 3]``."""
        self._game.set_seed(self._seed % 2**32)
        self._game.new_episode()
        for command in (f"fov {_VIEW:.2f}", *_CONSOLE, *self._commands):
            self._game.send_game_command(command)
        self._game.make_action([0.0, 0.0, 0.0, 0.0], _QUIET)
        self._state = self._game.get_state()
        lines = [line for sector in self._state.sectors for line in sector.lines if line.is_blocking]
        self._walls = np.array([(line.x1, line.y1, line.x2, line.y2) for line in lines])
        return self.frame

    def step(self, action: Sequence[float]) -> np.ndarray:
        """Go on by one frame.

        Args:
            action: Walking from -1 (back) to 1, sidestepping and turning from -1 (left) to 1, and attacking: 0 or 1.

        Returns:
            The frame that this leads to, uint8 ``[size, size, 3]``.
        """
        self.advance(action)
        return self.frame

    def advance(self, action: Sequence[float]) -> None:
        """Go on by one frame."""
        move, strafe, turn, attack = (float(value) for value in action)
        self._game.make_action([_FORWARD * move, _SIDE * strafe, TURN * turn, float(attack >= 0.5)], self._held)
        if self._game.is_episode_finished():
            self.reset()  # no scenario is known to end
        else:
            self._state = self._game.get_state()

    @property
    def frame(self) -> np.ndarray:
        """What is seen now, uint8 ``[size, size, 3]``."""
        picture = self._state.screen_buffer
        beside = (picture.shape[1] - PICTURE) // 2
        return shrink(picture[:, beside : beside + PICTURE], self._size)

    @property
    def position(self) -> tuple[float, float]:
        """Where the player is, in units of the level, of which the player is 32 wide."""
        x, y, _ = self._state.game_variables
        return float(x), float(y)

    @property
    def heading(self) -> float:
        """Which way the player looks, in radians: 0 is along x, and it grows to the left."""
        return math.radians(float(self._state.game_variables[2]))

    @property
    def turn_step(self) -> float:
        """Radians by which a key for turning turns from one frame to the next."""
        return math.radians(TURN * self._held)

    @property
    def things(self) -> list[Thing]:
        """What is in sight, besides the player."""
        return [
            Thing(label.object_name, label.object_category, label.object_position_x, label.object_position_y)
            for label in self._state.labels
            if label.object_category != "Self"
        ]

    def room(self, angles: np.ndarray) -> np.ndarray:
        """How far the player could walk, before a wall is met.

        Args:
            angles: Which ways, in radians as :attr:`heading`, ``[n]``.

        Returns:
            Units, float ``[n]``; at most 4096.
        """
        ways = np.stack([np.cos(angles), np.sin(angles)], -1)
        sides = np.array([-_BODY, 0.0, _BODY])[:, None, None] * np.stack([-ways[:, 1], ways[:, 0]], -1)
        origins = np.array(self.position) + sides  # [3, n, 2]
        begin, along = self._walls[:, :2], self._walls[:, 2:] - self._walls[:, :2]
        apart = begin - origins[..., None, :]
        crossed = ways[:, None, 0] * along[:, 1] - ways[:, None, 1] * along[:, 0]  # [n, walls]
        with np.errstate(divide="ignore", invalid="ignore"):
            far = (apart[..., 0] * along[:, 1] - apart[..., 1] * along[:, 0]) / crossed
            where = (apart[..., 0] * ways[:, None, 1] - apart[..., 1] * ways[:, None, 0]) / crossed
        hit = (far > 0) & (where >= 0) & (where <= 1)
        return np.where(hit, far, 4096.0).min(axis=(0, 2))


def game_version() -> str:
    """Which version of the game is installed.

    Raises:
        ValueError: If none is.
    """
    from importlib.metadata import version
    from importlib.util import find_spec

    if not find_spec("vizdoom"):
        raise ValueError("doom needs ViZDoom, which is not installed: pip install 'unistep[doom]'")
    return version("vizdoom")


def _vizdoom(scenario: str) -> Any:
    """A game that runs and has not begun, with the pictures of Freedoom whatever else is found on the machine.

    Raises:
        ValueError: If ViZDoom is not installed.
    """
    game_version()
    import vizdoom

    files = Path(vizdoom.__file__).parent
    game = vizdoom.DoomGame()
    game.load_config(str(files / "scenarios" / f"{scenario}.cfg"))
    game.set_doom_game_path(str(files / "freedoom2.wad"))
    game.set_doom_config_path(os.devnull)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_available_buttons(
        [button.MOVE_FORWARD_BACKWARD_DELTA, button.MOVE_LEFT_RIGHT_DELTA, button.TURN_LEFT_RIGHT_DELTA, button.ATTACK]
    )
    game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_labels_buffer_enabled(True)
    game.set_sectors_info_enabled(True)
    game.set_render_hud(False)
    game.set_render_messages(False)
    game.set_render_screen_flashes(False)
    game.set_episode_start_time(1)
    game.set_episode_timeout(0)
    game.add_game_args("+sv_cheats 1")
    # The game's process makes a folder for files of its own where it starts; it needs none afterwards.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.chdir(folder):
        game.init()
    return game
