"""The evaluation of a world: how long its frames stay those of the game, and whether they obey the actions."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from unistep.data import Dataset
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.hardware import hardware
from unistep.evaluation.inverse_dynamics import USUAL, DynamicsRecipe, dynamics_path, learn_dynamics
from unistep.evaluation.kept_rollouts import keep_rollout, read_rollout, rollout_path
from unistep.evaluation.progress import display, line
from unistep.evaluation.real_play import RealPlay, check_actions, frames_of, read_play
from unistep.evaluation.reference import batches, extract
from unistep.evaluation.roles import feature_roles, load_networks
from unistep.evaluation.rollouts import another, free_running, last_repeated, standing_still, teacher_forced
from unistep.evaluation.world_metrics import FrameFeatures, WorldMetrics
from unistep.evaluation.world_report import Role, WorldReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress

    from unistep.core.solvers import Solver
    from unistep.evaluation.rollouts import Seen
    from unistep.generation.generator import Generator
    from unistep.generation.session import StreamSession
    from unistep.modalities.base import Modality

TEACHER_FORCED, FREE_RUNNING = "teacher-forced", "free-running"
"""Names of the two rollouts of a world."""
STREAMS = 16
"""Recordings where nothing else is said."""


def evaluate_world(
    model: Generator,
    play: Dataset,
    learned: Dataset,
    *,
    num: int = STREAMS,
    features: Sequence[FeatureNetwork | str] | None = None,
    recipe: DynamicsRecipe = USUAL,
    steps: int | None = None,
    solver: Solver | None = None,
    seed: int = 0,
    progress: bool = True,
    console: Console | None = None,
) -> WorldReport:
    """Compare what a world makes with recordings of play, frame by frame.

    The world makes each frame once from the true frames before it (teacher-forced) and once from its own
    (free-running), under the recorded actions. Beside it stand what needs no world: the last frame repeated, the first
    one held, and another recording at the same moment. What was found of the two is kept, so that an evaluation that
    was broken off goes on.

    Args:
        model: A model with a context and a field of actions.
        play: Recordings that it has not seen: clips of as many frames as it is to go on for, and those of its past.
        learned: Other play: the inverse-dynamics network learns from it, and Fréchet distances are to its frames.
        num: Recordings at most.
        features: Feature networks of single frames, or their names; without, those that report on such frames.
        recipe: How the inverse-dynamics network is built and trained.
        steps: Sampling steps for each frame; the model's default without.
        solver: As in :meth:`~unistep.generation.generator.Generator.sample`.
        seed: Seed of the first stream.
        progress: Whether to show bars with speed and time left, on standard error.
        console: Where to show them instead.

    Raises:
        ValueError: If the model is no world, the data has other actions, or there are fewer than two recordings.
    """
    if num < 2:
        raise ValueError(f"a world is evaluated on at least 2 recordings, got num {num}")
    name, field = check_actions(play, model)
    check_actions(learned, model)
    real_play, frame = read_play(play, model, num), model.config.chunk
    if len(real_play) < 2:
        raise ValueError(f"a world is evaluated on at least 2 recordings, and {play.source} has {len(real_play)}")
    session = model.session(steps=steps, solver=solver)
    frames = frames_of(learned, frame)
    with display(progress, console) as bar:
        loaded = load_networks(features or feature_roles(frames).reporting, frames, bar=bar)
        networks = [_frame_features(network, frames, bar) for network in loaded]
        work = 0 if dynamics_path(learned, field, recipe).is_file() else recipe.steps * recipe.batch_size
        with line(bar if work else None, "actions are learned", work, "examples") as advance:
            dynamics = learn_dynamics(learned, name, field, recipe, progress=advance)
        metrics = WorldMetrics(real_play, networks, dynamics)
        total = len(real_play) * real_play.length
        with line(bar, "real", total, "frames") as advance:
            own = metrics.real(advance)
        rows = []
        known = {
            "play": [play.fingerprint, len(real_play), real_play.length, real_play.before],
            "learned": [learned.fingerprint, asdict(recipe)],
            "sampler": [steps, solver, seed],
        }
        for title, role, rollout in _rollouts(session, real_play, name, frame, seed):
            path = rollout_path(model, networks, rollout=title, **known) if role == "world" else None
            kept = None if path is None else read_rollout(path)
            if kept is not None:
                rows.append(kept)
                continue
            with line(bar, title, total, "frames") as advance:
                rows.append(metrics.measure(title, role, rollout, advance))
            if path is not None:
                keep_rollout(path, rows[-1])
    return WorldReport(
        model=model.name,
        sampler=_sampler(model, steps, solver),
        rows=(*rows, own),
        data=play.source,
        fingerprint=play.fingerprint,
        learned=learned.source,
        streams=len(real_play),
        length=real_play.length,
        before=real_play.before,
        frame=frame.described,
        blocks=metrics.blocks,
        networks={each.network.name: str(each.network.label) for each in networks},
        guess=metrics.guess,
        seed=seed,
        hardware=hardware(model.device),
        torch=torch.__version__,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notes=tuple(_notes(real_play, play, learned, networks)),
    )


def _rollouts(
    session: StreamSession, play: RealPlay, name: str, frame: Modality, seed: int
) -> Iterator[tuple[str, Role, Seen]]:
    yield TEACHER_FORCED, "world", teacher_forced(session, play, name, frame, seed)
    yield FREE_RUNNING, "world", free_running(session, play, name, frame, seed)
    yield "last true frame again", "floor", last_repeated(play)
    yield "first frame held", "floor", standing_still(play)
    yield "another recording", "floor", another(play)


def _frame_features(network: FeatureNetwork, frames: Dataset, bar: Progress | None) -> FrameFeatures:
    with line(bar, f"real frames, {network.name}", len(frames), "frames") as advance:
        return FrameFeatures.of(network, torch.cat(list(extract(network, batches(frames), progress=advance))))


def _sampler(model: Generator, steps: int | None, solver: Solver | None) -> str:
    count = model.config.steps if steps is None else steps
    named = f"{solver or model.config.solver} " if model.kind == "denoiser" else ""
    return f"{named}{count} step{'s' if count > 1 else ''}"


def _notes(play: RealPlay, data: Dataset, learned: Dataset, networks: Sequence[FrameFeatures]) -> Iterator[str]:
    if data.source == learned.source:
        yield f"the actions of {data.source} itself were learned, so they are recognised better than unseen ones"
    few = [each.network.name for each in networks if len(play) * min(50, play.length) < 2 * each.network.dim]
    if few:
        yield f"a block has few frames for {' and '.join(few)}: compare its Fréchet distances with those of real ones"
    for each in networks:
        if each.network.note:
            yield f"{each.network.name}: {each.network.note}"
