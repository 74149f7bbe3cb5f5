"""Live streams: each holds all of its own state, and the engine steps those that are due together."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unistep.core.action_fields import find_actions
from unistep.data.games import open_game
from unistep.generation.session import StreamSession, StreamState

if TYPE_CHECKING:
    from unistep.data.games import Game
    from unistep.generation.model_config import ModelConfig
    from unistep.serving.pool import Served


AGAIN = 0.25
"""Share of its period after which a chunk that nobody took may be made anew, however many inputs a client sends."""
GAMES = Lock()
"""One game runs at a time: their libraries are not made for threads."""
Snapshot = tuple[StreamState, dict[str, Any], int]
"""What a chunk is made from: where the stream stands, the condition, and the number of the newest input."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """One chunk of a stream, and what became of it."""

    number: int
    """Chunks before it."""
    signal: Tensor
    """The chunk, ``[*chunk_shape]`` on the CPU."""
    took: float
    """Seconds in the network, together with the other streams of the batch."""
    interaction: int
    """Number of the client's newest input that it reflects, from 1; 0 for none."""
    late: bool
    """Whether it was there only after it should have been played."""
    before: StreamState
    """Where the stream stood before it."""
    condition: Mapping[str, Any] = field(default_factory=dict)
    """What was given of its condition."""


@dataclass(kw_only=True, eq=False)
class LiveStream:
    """A stream of one client.

    There is room for one chunk that the client has not taken: no more are made until it does, so that a slow client
    never has a queue, and what is made is of the newest input. An input that comes while a chunk waits makes the stream
    go back to before it.
    """

    served: Served
    """The model."""
    session: StreamSession
    """Makes the chunks."""
    plan_key: Hashable
    """What streams of one batch agree in, besides the model."""
    state: StreamState
    """Where it stands."""
    seconds: float
    """From one chunk to the next."""
    ahead: int
    """Chunks that are made before they are played: 0 where the newest input matters, as in a game."""
    wake: Callable[[], object]
    """Called from the engine's thread once a chunk waits, or the stream has ended."""
    condition: dict[str, Any] = field(default_factory=dict)
    """The newest values of the model's fields; ``None`` leaves one to the seed."""
    script: Sequence[Mapping[str, Any]] = ()
    """Values of each chunk that are known before, in place of the newest; the last ones hold for all that follow."""
    interaction: int = 0
    """Number of the newest input."""
    game: Game | None = None
    """The game that it goes on from, where it does."""
    error: Exception | None = None
    """Why it ended."""
    closed: bool = False
    """Whether the client has left."""
    dropped: int = 0
    """Chunks that were made and not taken, since an input came."""
    _waiting: Chunk | None = None
    _number: int = 0
    _start: float = 0.0
    _begun: float = 0.0
    _again: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    @property
    def key(self) -> Hashable:
        """What streams of a batch agree in."""
        return (self.served.name, self.plan_key)

    @property
    def due(self) -> float:
        """When the engine may make the next chunk, by :func:`time.monotonic`."""
        return max(self._start + (self._number - self.ahead) * self.seconds, self._again)

    @property
    def ready(self) -> bool:
        """Whether it may have another chunk, but for the time."""
        return not self.ended and self._waiting is None

    @property
    def ended(self) -> bool:
        """Whether there will be no more chunks."""
        return self.closed or self.error is not None

    def interact(self, condition: Mapping[str, Any]) -> None:
        """Take a client's input; the newest counts, and what waits to be taken is made anew."""
        with self._lock:
            self.condition = {**self.condition, **condition}
            self.interaction += 1
            if self._waiting is not None:
                self.state, self._number = self._waiting.before, self._number - 1
                self._waiting = None
                self.dropped += 1
                self._again = self._begun + self.seconds * AGAIN

    def take(self) -> Chunk | None:
        """The chunk that waits, if there is one."""
        with self._lock:
            found, self._waiting = self._waiting, None
            return found

    def snapshot(self) -> Snapshot:
        """What the next chunk is made from."""
        with self._lock:
            now = self.script[min(self._number, len(self.script) - 1)] if self.script else {}
            return self.state, {**self.condition, **now}, self.interaction

    def offer(self, after: StreamState, signal: Tensor, begun: float, snapshot: Snapshot) -> Chunk:
        """Put a chunk where the client takes it.

        Args:
            after: Where the stream stands after it.
            signal: The chunk.
            begun: When the network was called, by :func:`time.monotonic`.
            snapshot: What it was made from.
        """
        before, condition, interaction = snapshot
        now = time.monotonic()
        with self._lock:
            late = self._is_late(begun, now)
            chunk = Chunk(
                number=self._number,
                signal=signal,
                took=now - begun,
                interaction=interaction,
                late=late,
                before=before,
                condition=condition,
            )
            self.state, self._number, self._waiting, self._begun = after, self._number + 1, chunk, begun
        self.wake()
        return chunk

    def _is_late(self, begun: float, now: float) -> bool:
        """Whether the next chunk is late; what is late is not made up for, so that all that follows is later too.

        A chunk that answers to inputs is shown when it is there, one period after it was begun at the latest. One that
        is made ahead is played when the one before it ends.
        """
        played = self._number * self.seconds
        if self._number == 0 or not self.seconds:
            self._start = now if self.ahead else begun
            return False
        if self.ahead:
            late = now - (self._start + played)
            self._start += max(late, 0.0)
            return late > 0
        behind = begun - (self._start + played)
        if behind > self.seconds / 4:
            self._start += behind
        return now > self._start + played + self.seconds

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self.error = error
        self.wake()


def step_together(streams: Sequence[LiveStream]) -> list[Chunk]:
    """Make the next chunk of streams of one key in one batch.

    Args:
        streams: The streams.

    Returns:
        Their chunks.

    Raises:
        ValueError: If the model refuses a condition; none of the streams has moved then.
    """
    begun = time.monotonic()
    snapshots = [stream.snapshot() for stream in streams]
    states = [state for state, _, _ in snapshots]
    conditions = [condition for _, condition, _ in snapshots]
    names = {name for condition in conditions for name in condition}
    given = {name: [condition.get(name) for condition in conditions] for name in sorted(names)}
    after, signals = streams[0].session.step(StreamState.stack(states), given)
    parts = zip(streams, after.unstack(), signals.unbind(0), snapshots, strict=True)
    return [stream.offer(moved, signal.clone(), begun, snapshot) for stream, moved, signal, snapshot in parts]


def game_of(config: ModelConfig, name: str, seed: int) -> tuple[Game, Tensor]:
    """The game that a model's data comes from, and its first frame.

    Args:
        config: The model.
        name: What it is called, for messages.
        seed: Decides all that chance decides in the game.

    Raises:
        ValueError: If there is none, or it is not installed.
    """
    _, spec = find_actions(config.fields, name)
    with GAMES:
        game = open_game(config.provenance.get("data", ""), config.chunk, spec, seed=seed % 2**31)
        return game, game.reset()
