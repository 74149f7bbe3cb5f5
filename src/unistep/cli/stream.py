"""``unistep stream``: audio or video to a pipe or a file, chunk by chunk as a model generates it."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from unistep.cli.backend import BackendOptions, check_backend, loaded
from unistep.cli.delivery import deliver
from unistep.cli.errors import INTERRUPTED
from unistep.cli.marking import MarkingOptions, provenance_for, read_signing
from unistep.cli.model_options import parse_model_options
from unistep.cli.outputs import check_file
from unistep.generation.pacing import Deadlines

if TYPE_CHECKING:
    from torch import Tensor

    from unistep.generation.model_config import ModelConfig
    from unistep.provenance import Signing

PIPE = "-"
"""Standard output, as ``--out`` has it."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions(MarkingOptions, BackendOptions):
    """Play a streaming model. Its conditions, such as --pitch, are options too: unistep stream MODEL -h."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name from `unistep models`, a folder of a model or of a run, or owner/name on the Hugging Face hub."""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])] = PIPE
    """`-` for raw values on standard output, for a player to read: samples (s16le), or pixels (rgb24 or gray); or a
    file, .wav, .flac or .ogg of audio, .mp4, .webm or .gif of video."""
    seconds: float | None = None
    """How long, rounded up to whole chunks; without, as long as --actions, or without end to a pipe and a minute to a
    file."""
    actions: Path | None = None
    """CSV file of what a player does, a row for each frame, with a column for each control or one `action` of texts
    such as left+gas; `frames` says how long a row is held. The stream ends with it."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File whose end the stream goes on from, such as a clip, or a picture for a model of video; none without."""
    pace: Literal["real-time", "fast"] | None = None
    """real-time hands a chunk on when a player needs it, fast as soon as it is there; without, real-time to a pipe and
    fast to a file."""
    seed: int = 0
    """Seed of the stream."""
    steps: int | None = None
    """Sampling steps for each chunk; the model's default without."""
    solver: Literal["heun", "euler", "dpmpp2m"] | None = None
    """ODE solver, for many-step teachers."""
    guidance: float | None = None
    """Guidance weight, as in unistep sample."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(arguments: Sequence[str]) -> int:
    """Stream until the end, until Ctrl-C, or until the reader closes the pipe."""
    without = "drawn from the seed; several with commas take turns, one a chunk"
    what = "Play a streaming model."
    given = parse_model_options(StreamOptions, "stream", arguments, what, without=without)
    options, config = given.options, given.config
    output = config.modality.stream_output
    if options.seconds is not None and not 0 < options.seconds < math.inf:
        raise ValueError(f"--seconds must be a number above 0 (without it, a pipe never ends), got {options.seconds:g}")
    if options.out == PIPE and sys.stdout is None:
        raise ValueError("standard output is closed: name a file with -o")
    if options.out == PIPE and sys.stdout.isatty():
        raise ValueError(f"{output.raw} are not for a terminal: add | {output.player}, or name a file with -o")
    path = None if options.out == PIPE else check_file(options.out, output.endings)
    check_backend(options)
    signing = read_signing(options, None if path is None else path.suffix)
    condition = {field: _turns(config, field, text) for field, text in given.condition.items()}
    if options.actions is not None:
        condition.update(_actions(options, config, condition))
    past = None if options.start is None else config.modality.load_end(options.start)
    return _play(options, path, condition, past, signing, given.condition)


def _actions(options: Any, config: ModelConfig, condition: Mapping[str, Any]) -> dict[str, Any]:
    """The action of each frame from a file."""
    from unistep.core.action_fields import find_actions
    from unistep.data.action_files import read_actions

    field, spec = find_actions(config.fields, options.model)
    if field in condition:
        raise ValueError(f"--{field} and --actions both say what is done; give one of them")
    return {field: list(read_actions(options.actions, spec))}


def _turns(config: ModelConfig, field: str, text: str) -> Any:
    """One value of a condition; several with commas repeat in turn."""
    values = text.split(",")
    for value in values:
        config.fields[field].parse(field, value, 1)
    return itertools.cycle(values) if len(values) > 1 else text


def _play(
    options: Any,
    path: Path | None,
    condition: dict[str, Any],
    past: Tensor | None,
    signing: Signing | None,
    written: Mapping[str, str],
) -> int:
    began = time.perf_counter()
    generator = loaded(options)
    chunks = generator.stream(
        seed=options.seed,
        steps=options.steps,
        solver=options.solver,
        guidance=options.guidance,
        past=past,
        **condition,
    )
    length = generator.config.chunk.seconds or 0.0
    ends = options.seconds is not None or options.actions is not None
    seconds = options.seconds if ends or path is None else 60.0
    if seconds is not None:
        chunks = itertools.islice(chunks, min(max(1, math.ceil(seconds / length - 1e-6)), sys.maxsize))
    paced = options.pace == "real-time" or (options.pace is None and path is None)
    output = generator.modality.stream_output
    deadlines = Deadlines(length, paced=paced, begun=began, content=output.content)
    turns = {field: text for field, text in written.items() if isinstance(condition.get(field), Iterator)}
    fixed = {field: text for field, text in written.items() if field not in turns}
    known = None if path is None else provenance_for(generator, options, signing, 1, options.seed, fixed)
    if known is not None and turns:
        known = replace(known, conditions=({**known.conditions[0], **turns},))
    interrupted = deliver(chunks, path, output, deadlines, known)
    if path is not None:
        print(f"written to {path}")
    return INTERRUPTED if interrupted else 0
