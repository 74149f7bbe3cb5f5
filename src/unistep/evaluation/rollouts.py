"""Frame after frame, beside a recording: of a world that is given the true past or its own, and of what needs no world.

Each rollout is an iterator over the frames that the recordings have after their first ones. It gives a frame of every
recording together with the two before it as its maker knows them, signals ``[n, c, 3, h, w]`` in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.values import Action
from unistep.evaluation.real_play import SEEN, RealPlay
from unistep.generation.session import StreamSession

if TYPE_CHECKING:
    from unistep.modalities.base import Modality

Seen = Iterator[Float[Tensor, "n c seen h w"]]


def free_running(session: StreamSession, play: RealPlay, action: str, frame: Modality, seed: int = 0) -> Seen:
    """The world goes on from its own frames, under the actions of the recording.

    Args:
        session: The world's.
        play: The recordings, of whose first frames it goes on from.
        action: Name of the field of actions.
        frame: What a frame is.
        seed: Seed of the first stream.
    """
    state = session.start(_seeds(play, seed), play.clip(0, play.before))
    seen = play.seen(play.before - 1)
    for number in range(play.before, play.before + play.length):
        state, made = session.step(state, {action: Action(play.actions[:, number])})
        seen = torch.cat([seen[:, :, 1:], frame.quantised(made)], dim=2)
        yield seen


def teacher_forced(session: StreamSession, play: RealPlay, action: str, frame: Modality, seed: int = 0) -> Seen:
    """The world makes each frame from the true ones before it; the noise is that of :func:`free_running`."""
    for number in range(play.before, play.before + play.length):
        state = session.start(_seeds(play, seed), play.clip(number - play.before, number))
        state = replace(state, number=state.number + number - play.before)
        _, made = session.step(state, {action: Action(play.actions[:, number])})
        yield torch.cat([play.seen(number - 1)[:, :, 1:], frame.quantised(made)], dim=2)


def real(play: RealPlay) -> Seen:
    """The recording itself."""
    for number in range(play.before, play.before + play.length):
        yield play.seen(number)


def last_repeated(play: RealPlay) -> Seen:
    """The true frame before, once more: what a world has to beat that is given the true past."""
    for number in range(play.before, play.before + play.length):
        before = play.seen(number - 1)
        yield torch.cat([before[:, :, 1:], before[:, :, -1:]], dim=2)


def standing_still(play: RealPlay) -> Seen:
    """The last frame of the past, for good: what a world has to beat that goes on from its own frames."""
    still = play.seen(play.before - 1)[:, :, -1:].expand(-1, -1, SEEN, -1, -1)
    for _ in range(play.length):
        yield still


def another(play: RealPlay) -> Seen:
    """Another recording at the same moment: looks right, and has nothing to do with the actions."""
    for number in range(play.before, play.before + play.length):
        yield play.seen(number).roll(1, 0)


def _seeds(play: RealPlay, seed: int) -> range:
    return range(seed, seed + len(play))
