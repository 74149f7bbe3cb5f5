"""``unistep play``: a world model under a player's keys in real time, or under a script's actions to a file."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unistep.cli.backend import BackendOptions, check_backend, loaded
from unistep.cli.errors import INTERRUPTED
from unistep.cli.marking import MarkingOptions, provenance_for, read_signing
from unistep.cli.model_options import parse_model_options
from unistep.cli.outputs import check_file
from unistep.provenance import COMPOSITE, mark_file

if TYPE_CHECKING:
    from unistep.core.action_fields import ActionField
    from unistep.generation.generator import Generator
    from unistep.generation.model_config import ModelConfig
    from unistep.generation.play import Screen, World
    from unistep.modalities.stream_output import StreamOutput
    from unistep.provenance import Provenance, Signing


@dataclass(frozen=True, kw_only=True)
class PlayOptions(MarkingOptions, BackendOptions):
    """Play a world model: a model of the next frame from the last ones and from what you do."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    window: bool = False
    """Play in a window rather than in the terminal: it knows when a key is let go."""
    script: str | None = None
    """Actions instead of keys, and for how many frames each, such as gas*50,left+gas*20,none*10; with --out."""
    actions: Path | None = None
    """The same from a CSV file: a row for each frame, with a column for each control or one `action` of texts such as
    left+gas; `frames` says how long a row is held."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write what is played to: .mp4, .webm or .gif."""
    beside: bool = False
    """Show the real game on the left, under the same actions; the model goes on from its first frame."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Clip whose end the model goes on from, or a picture; from nothing without."""
    seed: int = 0
    """Seed of the model's noise, and of the game of --beside."""
    steps: int | None = None
    """Sampling steps for each frame; the model's default without."""
    solver: Literal["heun", "euler", "dpmpp2m"] | None = None
    """ODE solver, for many-step teachers."""
    guidance: float | None = None
    """Guidance weight, as in unistep sample."""
    fps: float | None = None
    """Frames per second on the screen, and in the file of --out; those of the model's data without."""
    picture: Literal["auto", "sixel", "blocks"] = "auto"
    """Pictures in a terminal: sixel, in pixels; blocks, two pixels a character; or sixel where the terminal says that
    it can."""
    hold: float = 0.25
    """Seconds for which a key counts as held after its last repeat, in a terminal that does not say when it is let
    go."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int = 1
    """Threads of a CPU; small networks gain little from more than one."""


def run(arguments: Sequence[str]) -> int:
    """Play until the player quits or the script ends."""
    from unistep.core.action_fields import find_actions
    from unistep.generation.keys import Keys

    what = "Play a world model: arrows or w, a, s, d steer, space pauses, r starts again, q quits."
    given = parse_model_options(PlayOptions, "play", arguments, what, without="drawn from the seed", leave_out=_played)
    options, config = given.options, given.config
    _, spec = find_actions(config.fields, options.model)
    output = _output(options, config)
    if output.pictures is None:
        raise ValueError(f"{options.model} makes {config.modality.noun}s, which cannot be seen; use unistep stream")
    if options.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {options.threads}")
    check_backend(options)
    if options.script is not None and options.actions is not None:
        raise ValueError("--script and --actions both say what is done; give one of them")
    scripted = options.script is not None or options.actions is not None
    if scripted and options.out is None:
        raise ValueError("say with -o where the frames of the script go, such as -o out.mp4")
    path = None if options.out is None else check_file(options.out, output.endings)
    signing = None if path is None and not options.sign else read_signing(options, path and path.suffix)
    if scripted:
        return _write_script(options, spec, output, path, given.condition, signing)
    keys = Keys(spec, hold=options.hold)
    if options.window:
        from unistep.cli.window import window_screen

        screen = window_screen(keys, f"unistep play {options.model}")
    else:
        from unistep.cli.terminal import check_picture, terminal_screen

        check_picture(options.picture)
        screen = terminal_screen(keys, options.picture)
    return _play(options, output, path, given.condition, screen, signing)


def _played(config: ModelConfig) -> dict[str, str]:
    """The fields that are no options, and why."""
    from unistep.core.action_fields import ActionField

    why = "is what you play; give --script or --actions for actions that are known"
    return {name: why for name, spec in config.fields.items() if isinstance(spec, ActionField)}


def _output(options: Any, config: ModelConfig) -> StreamOutput:
    """How frames are shown and written, at the rate that was asked for.

    Raises:
        ValueError: If that is no rate.
    """
    output = config.modality.stream_output
    if options.fps is None or output.at_rate is None:
        return output
    if not 0 < options.fps < math.inf:
        raise ValueError(f"--fps must be a number above 0, got {options.fps:g}")
    return output.at_rate(options.fps)


def _world(options: Any, generator: Generator, condition: dict[str, Any]) -> World:
    """What is played: the model, or the game and the model."""
    from unistep.generation.play import Beside, ModelWorld

    config = generator.config
    past = None if options.start is None else config.modality.load_end(options.start)
    model = ModelWorld(
        generator,
        seed=options.seed,
        steps=options.steps,
        solver=options.solver,
        guidance=options.guidance,
        past=past,
        condition=condition,
    )
    if not options.beside:
        return model
    from unistep.data.games import open_game

    game = open_game(config.provenance.get("data", ""), config.chunk, model.spec, seed=options.seed)
    return Beside(game, model)


def _loaded(options: Any) -> Generator:
    import torch

    torch.set_num_threads(options.threads)
    return loaded(options)


def _play(
    options: Any,
    output: StreamOutput,
    path: Path | None,
    condition: dict[str, Any],
    screen: AbstractContextManager[Screen],
    signing: Signing | None,
) -> int:
    """Play on a screen, and say how it went when the terminal is as it was."""
    from unistep.cli.delivery import polite_kill
    from unistep.generation.play import RealTimePlay

    generator = _loaded(options)
    world = _world(options, generator, condition)
    finish = partial(mark_file, provenance=_provenance(options, generator, condition, signing))
    assert output.pictures is not None
    with ExitStack() as after, ExitStack() as stack:
        stack.enter_context(polite_kill())
        record = None if path is None else stack.enter_context(output.open_file(path, finish))
        shown = stack.enter_context(screen)
        play = RealTimePlay(world, shown, seconds=1 / output.rate, pictures=output.pictures, record=record)
        after.callback(lambda: print(play, file=sys.stderr))
        try:
            play.run()
            code = 0
        except KeyboardInterrupt:
            code = INTERRUPTED
    if path is not None and play.frames:
        print(f"written to {path}")
    return code


def _provenance(
    options: Any, generator: Generator, condition: dict[str, Any], signing: Signing | None
) -> Provenance | None:
    """What a file says of its origin: beside the real game the model made a part of it."""
    known = provenance_for(generator, options, signing, 1, options.seed, condition)
    return replace(known, source_type=COMPOSITE) if known is not None and options.beside else known


def _write_script(
    options: Any,
    spec: ActionField,
    output: StreamOutput,
    path: Path | None,
    condition: dict[str, Any],
    signing: Signing | None,
) -> int:
    """The frames of known actions, to a file as fast as they come."""
    from unistep.cli.delivery import deliver
    from unistep.data.action_files import parse_actions, read_actions
    from unistep.generation.pacing import Deadlines
    from unistep.generation.play import frames_of

    script = options.script
    actions = read_actions(options.actions, spec) if script is None else parse_actions(script, spec)
    began = time.perf_counter()
    generator = _loaded(options)
    frames = frames_of(_world(options, generator, condition), actions)
    deadlines = Deadlines(1 / output.rate, paced=False, begun=began, content=output.content)
    interrupted = deliver(frames, path, output, deadlines, _provenance(options, generator, condition, signing))
    print(f"written to {path}")
    return INTERRUPTED if interrupted else 0
