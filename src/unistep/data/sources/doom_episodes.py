"""Recording what is played in ViZDoom: frames and the actions under which they came about, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from unistep.data.sources.doom_game import DoomGame
from unistep.data.sources.doom_players import MixedPlayer, Player, RandomPlayer, ScriptedPlayer
from unistep.data.sources.recording_apart import Played, record_apart, write_recorded

PLAYERS: dict[str, Callable[[np.random.Generator], Player]] = {
    "scripted": lambda generator: ScriptedPlayer(generator, keys=generator.random() < 2 / 3),
    "mixed": MixedPlayer,
    "random": RandomPlayer,
}
"""Players by name."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Part of what a player does in a scenario, which nothing else decides."""

    scenario: str
    """Name of the scenario."""
    player: str
    """Name of the player."""
    seed: int
    """Decides what happens in the game, and what the player does."""
    first: int
    """First frame that is recorded; those before are played and left out."""
    frames: int
    """How many are recorded."""
    size: int
    """Side of the frames, in pixels."""
    held: int
    """Steps of the game from one frame to the next."""

    def record(self) -> Played:
        """Play it.

        Returns:
            Frames, uint8 ``[frames, 3, size, size]``, and the action under which each came about, float32
            ``[frames, 4]``.

        Raises:
            ValueError: If the game is not installed.
        """
        game = DoomGame(self.seed, scenario=self.scenario, size=self.size, held=self.held)
        player = PLAYERS[self.player](np.random.default_rng([self.seed, 1]))
        frames = np.empty((self.frames, 3, self.size, self.size), np.uint8)
        actions = np.zeros((self.frames, 4), np.float32)
        for j in range(-self.first, self.frames):
            action = (0.0, 0.0, 0.0, 0.0) if j == -self.first else player.act(game)  # of the very first, none
            if j > -self.first:
                game.advance(action)
            if j >= 0:
                frames[j], actions[j] = game.frame.transpose(2, 0, 1), action
        game.close()
        return frames, actions


def record_episode(episode: Episode) -> Played:
    """The same as :meth:`Episode.record`, by a process of its own.

    Raises:
        ValueError: If the process fails; says how.
    """
    return record_apart(__name__, asdict(episode), "an episode of doom")


if __name__ == "__main__":
    write_recorded(lambda settings: Episode(**settings).record())
