"""Worlds that are played: a frame at each tick of real time, under the newest action."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unistep.core.action_fields import find_actions
from unistep.core.condition import GUIDANCE
from unistep.core.solvers import Solver
from unistep.data.games import Game
from unistep.generation.generator import Generator
from unistep.generation.keys import Keys
from unistep.generation.pacing import KEPT, Ticks, quantile
from unistep.generation.session import StreamState

GAP = 4
"""White columns between two worlds side by side."""
LINE_EVERY = 0.25
"""Seconds from one line of figures to the next."""


class World(Protocol):
    """What goes on frame by frame under a player's actions."""

    def reset(self) -> object:
        """Begin again from the start."""
        ...

    def step(self, action: Tensor) -> Float[Tensor, "c one h w"]:
        """The next frame, a clip of one with values in [-1, 1], to which an action ``[size]`` leads."""
        ...


class ModelWorld:
    """A model of the next frame as a world.

    Args:
        generator: The model.
        seed: Seed of the stream.
        steps: Sampling steps for each frame; the model's default without.
        solver: As in :meth:`~unistep.generation.generator.Generator.sample`.
        guidance: Likewise.
        past: Clip that it goes on from, ``[c, frames, h, w]`` in [-1, 1]; from nothing without.
        condition: Values of its other fields, by name.

    Raises:
        ValueError: If the model does not stream, or takes no actions.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        seed: int = 0,
        steps: int | None = None,
        solver: Solver | None = None,
        guidance: float | None = None,
        past: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> None:
        self.field, self.spec = find_actions(generator.config.fields, generator.name)
        self.past = past
        """Clip that :meth:`reset` goes on from."""
        self._seed, self._condition = seed, dict(condition or {})
        if GUIDANCE in generator.config.fields and guidance is not None:  # a condition of such a model
            self._condition[GUIDANCE], guidance = guidance, None
        self._session = generator.session(steps=steps, solver=solver, guidance=guidance)
        self._state = self._started()

    def _started(self) -> StreamState:
        return self._session.start([self._seed], None if self.past is None else self.past[None])

    def reset(self) -> None:
        """Begin again from the same past and with the same seed."""
        self._state = self._started()

    def step(self, action: Tensor) -> Float[Tensor, "c one h w"]:
        """The next frame."""
        self._state, frames = self._session.step(self._state, {**self._condition, self.field: action})
        return frames[0]


class Beside:
    """A game on the left and a model of it on the right, which goes on from the game's first frame.

    Args:
        game: The game.
        model: The model; its past becomes that frame, unless it has one.
    """

    def __init__(self, game: Game, model: ModelWorld) -> None:
        self._game, self._model, self._follows = game, model, model.past is None

    def reset(self) -> None:
        """Begin both again."""
        first = self._game.reset()
        if self._follows:
            self._model.past = first
        self._model.reset()

    def step(self, action: Tensor) -> Float[Tensor, "c one h w"]:
        """The next frames of both, with a gap between them."""
        return side_by_side(self._game.step(action), self._model.step(action))


def side_by_side(left: Float[Tensor, "c n h w"], right: Float[Tensor, "c n h w"]) -> Float[Tensor, "c n h wide"]:
    """Two clips beside each other, with a white gap of :data:`GAP` columns."""
    return torch.cat([left, torch.ones_like(left[..., :1]).expand(*left.shape[:-1], GAP), right], dim=-1)


def frames_of(world: World, actions: Iterable[Tensor]) -> Iterator[Float[Tensor, "c one h w"]]:
    """The frames of a world from its start, one for each action."""
    world.reset()
    for action in actions:
        yield world.step(action)


class Screen(ABC):
    """Where a world is seen, and whose keys steer it.

    Args:
        keys: What is held.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Let that time go by, or less where something is pressed; what is pressed goes to :attr:`keys`."""

    @abstractmethod
    def show(self, picture: UInt8[np.ndarray, "h w 3"], line: str) -> None:
        """Show a frame, and figures in one line."""


class RealTimePlay:
    """Plays a world on a screen: at each tick the newest action is taken, and the frame to which it leads is shown.

    Frames are never queued: one that is shown only after the next tick is a missed deadline, and the ticks go on from
    then.

    Args:
        world: The world.
        screen: Where it is seen.
        seconds: From one frame to the next.
        pictures: The pictures of a clip ``[c, frames, h, w]``, as :attr:`StreamOutput.pictures` gives them.
        record: Is given every frame too.
        clock: Seconds, from any beginning; that of the screen's keys.
    """

    def __init__(
        self,
        world: World,
        screen: Screen,
        *,
        seconds: float,
        pictures: Callable[[Tensor], np.ndarray],
        record: Callable[[Tensor], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._world, self._screen, self._pictures, self._record = world, screen, pictures, record
        self._clock, self._ticks = clock, Ticks(seconds, clock=clock)
        self.frames = 0
        """Frames that were shown."""
        self.missed = 0
        """Frames that came too late."""
        self._took: deque[float] = deque(maxlen=KEPT)
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._shown: deque[float] = deque(maxlen=50)

    def run(self) -> None:
        """Play until the player quits."""
        self._world.reset()
        self._world.step(self._screen.keys.take().action)  # the first call of a network is slower than all others
        self._world.reset()
        picture, paused, line, lined = None, False, "", -LINE_EVERY
        while True:
            self._ticks.wait(self._screen.wait)
            given = self._screen.keys.take()
            if given.command == "quit":
                return
            if given.command == "restart":
                self._world.reset()
            if given.command == "pause":
                paused = not paused
                self._shown.clear()
                if paused and picture is not None:
                    self._screen.show(picture, "paused; space goes on")
            if paused:
                continue
            begun = self._clock()
            frame = self._world.step(given.action)
            self._took.append(self._clock() - begun)
            picture = self._pictures(frame)[0]
            if begun - lined >= LINE_EVERY:
                line, lined = f"{self.rate:.1f} fps, {self._figures((0.95,))}", begun
            self._screen.show(picture, f"{given.text:<11} {line}")
            shown = self._clock()
            self._shown.append(shown)
            self.frames += 1
            self.missed += self._ticks.late
            if given.since is not None:
                self._latencies.append(shown - given.since)
            if self._record is not None:
                self._record(frame)

    @property
    def rate(self) -> float:
        """Frames per second of late."""
        return (len(self._shown) - 1) / (self._shown[-1] - self._shown[0]) if len(self._shown) > 1 else 0.0

    def took(self, share: float) -> float:
        """Seconds within which that share of the last frames was computed; 0.5 is the median."""
        return quantile(self._took, share)

    def latency(self, share: float) -> float:
        """Seconds from a key to the frame that shows its effect, for that share of the last keys."""
        return quantile(self._latencies, share)

    def _figures(self, shares: Iterable[float]) -> str:
        more = ", ".join(f"p{100 * share:.0f} {1e3 * self.took(share):.0f} ms" for share in shares)
        return f"a frame in {1e3 * self.took(0.5):.0f} ms ({more}), {self.missed} deadlines missed"

    def __str__(self) -> str:
        """The figures of the whole, in one line."""
        if not self.frames:
            return "no frame was shown"
        keys = f"; a key is seen after {1e3 * self.latency(0.5):.0f} ms (p95 {1e3 * self.latency(0.95):.0f} ms)"
        line = f"{self.frames} frames, {self._figures((0.95, 0.99))}"
        return line + (keys if self._latencies else "")
