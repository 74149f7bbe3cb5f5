r"""A world that is driven by a driver who only sees, beside its game, and whether it keeps up in real time.

    python benchmarks/world.py runs/world [--frames 300] [--features vicreg] [--threads 1 2] [--long 90000]
        [--top view.png] [--json FILE]

- driving: on each track of ``racing:test``, ``drive_by_sight`` drives for a second in the game. From there it drives
  on for ``--frames`` in the game, and in the model, which goes on from the game's last frames. It is off the road once
  it has been beside it for ten frames in a row. In the model that is seen in the picture (the pixels to both sides of
  the car are green), and so it is in the game's, beside what the game itself says. A world without bends is easy to
  drive in, so look at the turning too: how fast the heading changes, on average, and in the last third of the frames;
- trajectories, seen from above (``--top``): in the game where the car is; in both also what the instruments in the
  picture say, speed and turning, summed up over time. Slipping sideways is not in it. ``off by`` is how far the latter
  ends from the former in the game, as a share of the way;
- frames of these drives (``--features``): Fréchet distance of the first and the last 50 frames of all drives to frames
  of ``racing``, on feature networks of single frames, in the model and in the game. Here the driver answers to what the
  model shows, as a player does. Under actions that answer to another road, the game leaves its own and is far from what
  it is like in play: ``in the game, blind`` is that, driven as on the next track. ``unistep evaluate --rollout`` asks
  the same of a model, whose road is soon another one than in the recording;
- real time: a frame is the network with all of a session, rounding to bytes, and encoding as PNG (and as JPEG, beside
  it), one after the other as fast as they come; p50, p95, p99, and how many took longer than a thirtieth of a second.
  Sending and showing are not included. Four streams are one batch, with an encoder for each frame. They take turns with
  one stream, so that both see the same machine;
- input to frame: ``RealTimePlay`` at ``--fps``, with keys at random moments; from the key to the encoded frame that is
  the first to show it, the wait for the tick included;
- memory: of the process, after the first minute of play (at ``--fps``) and after ``--long`` frames.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from world_speed import latency, memory, pictures, real_time, say

import unistep
from unistep.core.values import Action
from unistep.data import prepare
from unistep.data.sources.racing import DRIVES, seed_of
from unistep.data.sources.racing_game import RATE, ROAD_WIDTH, RacingGame
from unistep.data.sources.racing_sight import drive_by_sight, read_instruments
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.hardware import hardware
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.evaluation.real_play import check_world, frames_of
from unistep.evaluation.roles import load_networks
from unistep.generation.generator import Generator
from unistep.modalities.base import Modality
from unistep.recipes import reproductions

OFF = 10
"""Frames in a row beside the road after which a car is off it."""
LEAD = RATE
"""Frames that are driven in the game before the two part."""
ENDS = 50
"""Frames at the beginning and at the end of a drive whose Fréchet distances are compared."""


@dataclass(kw_only=True)
class Drive:
    """What a drive was like."""

    seen_on_road: list[bool] = field(default_factory=list)
    """Whether the picture shows road beside the car, frame by frame."""
    on_road: list[bool] = field(default_factory=list)
    """Whether the car is on the road as the game has it."""
    speeds: list[float] = field(default_factory=list)
    """Units per second, as the instruments in the picture say."""
    turnings: list[float] = field(default_factory=list)
    """Radians per second to the right, as they say."""
    places: list[tuple[float, float]] = field(default_factory=list)
    """Where the car is as the game has it."""
    begin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where the drive begins, and the heading."""
    actions: list[Sequence[float]] = field(default_factory=list)
    """What the driver did in the game."""
    first: list[np.ndarray] = field(default_factory=list)
    """The first frames."""
    last: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=ENDS))
    """The last ones."""

    def see(self, frame: np.ndarray) -> None:
        """Take in a frame."""
        if len(self.first) < ENDS:
            self.first.append(frame)
        self.last.append(frame)
        speed, turning = read_instruments(frame)
        self.seen_on_road.append(road_beside_car(frame))
        self.speeds.append(speed)
        self.turnings.append(turning)

    def trajectory(self) -> np.ndarray:
        """Speed and turning summed up over time: places ``[frames + 1, 2]``."""
        x, y, heading = self.begin
        headings = heading - np.cumsum(self.turnings) / RATE
        steps = np.stack([-np.sin(headings), np.cos(headings)], axis=1) * np.array(self.speeds)[:, None] / RATE
        return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]) + np.array([x, y])


def road_beside_car(frame: np.ndarray) -> bool:
    """Whether a fifth of the pixels to both sides of the car, or more, is not green.

    In 700 frames of drives that are half beside the road it agrees with the game in 99 of 100.
    """
    side = frame.shape[0]
    rows = slice(round(side * 44 / 64), round(side * 53 / 64))
    beside = frame[rows][:, [round(side * 29 / 64), round(side * 34 / 64)]].astype(np.float32)
    green = beside[..., 1] - (beside[..., 0] + beside[..., 2]) / 2
    return bool((green < 50).mean() > 0.2)


def kept(on_road: Sequence[bool]) -> int:
    """Frames until the car is off the road."""
    beside = 0
    for number, on in enumerate(on_road):
        beside = 0 if on else beside + 1
        if beside == OFF:
            return number + 1 - OFF
    return len(on_road)


def driven_for_a_second(track: int, size: int) -> tuple[RacingGame, list[np.ndarray]]:
    """The game of a track once it has been driven for :data:`LEAD` frames, and these."""
    game = RacingGame(seed_of("test", track), size=size)
    frame, past = game.frame, []
    for _ in range(LEAD):
        frame = game.step(drive_by_sight(frame))
        past.append(frame)
    return game, past


def drive_blind(actions: Sequence[Sequence[Sequence[float]]], size: int) -> list[Drive]:
    """Drive on every track in the game as on the next one, whatever it shows."""
    drives = []
    for number in range(DRIVES["test"]):
        game, _ = driven_for_a_second(number, size)
        drives.append(Drive())
        for action in actions[(number + 1) % len(actions)]:
            drives[-1].see(game.step(action))
        say(f"track {number + 1} of {DRIVES['test']} in the game, blind")
    say("")
    return drives


def drive_both(model: Generator, name: str, frames: int, steps: int | None) -> list[tuple[RacingGame, Drive, Drive]]:
    """Drive on every track, in the game and in the model."""
    before, size = model.config.codec.past, model.signal_shape[-1]
    found, last = [], []
    for number in range(DRIVES["test"]):
        game, past = driven_for_a_second(number, size)
        frame = past[-1]
        last.append(np.stack(past[-before:]))
        real, made = (Drive(begin=(*game.position, game.heading)) for _ in range(2))
        for _ in range(frames):
            real.actions.append(drive_by_sight(frame))
            frame = game.step(real.actions[-1])
            real.see(frame)
            real.on_road.append(game.on_road)
            real.places.append(game.position)
        found.append((game, real, made))
        say(f"track {number + 1} of {DRIVES['test']} in the game")
    session, modality = model.session(steps=steps), model.config.chunk
    clips = modality.to_signal(torch.from_numpy(np.stack(last)).permute(0, 4, 1, 2, 3))
    state, shown = session.start(range(len(last)), clips), np.stack(last)[:, -1]
    for number in range(frames):
        actions = torch.tensor([drive_by_sight(frame) for frame in shown])
        state, signals = session.step(state, {name: Action(actions)})
        shown = pictures(modality.to_stored(signals))
        for (_, _, made), frame in zip(found, shown, strict=True):
            made.see(frame)
        if number % 50 == 49:
            say(f"frame {number + 1} of {frames} in the model")
    say("")
    return found


def driving_figures(drives: Sequence[tuple[RacingGame, Drive, Drive]], frames: int) -> dict[str, Any]:
    """How long each drive stays on the road, and how alike they are."""
    rows, apart = [], []
    for _, real, made in drives:
        trajectory = real.trajectory()
        way = float(np.hypot(*np.diff(real.places, axis=0).T).sum())
        apart.append(float(np.hypot(*(trajectory[-1] - real.places[-1]))) / max(way, 1.0))
        rows.append((kept(real.on_road), kept(real.seen_on_road), kept(made.seen_on_road)))
    table = np.array(rows)
    agree = np.mean([np.mean(np.equal(real.on_road, real.seen_on_road)) for _, real, _ in drives])

    def of(which: int, name: str, last: int = 0) -> list[float]:
        return [abs(value) for drive in drives for value in getattr(drive[which], name)[-last:]]

    return {
        "frames driven": frames,
        "on the road, game itself": table[:, 0].tolist(),
        "on the road, game seen": table[:, 1].tolist(),
        "on the road, model seen": table[:, 2].tolist(),
        "whole drives, game itself": int((table[:, 0] == frames).sum()),
        "whole drives, model seen": int((table[:, 2] == frames).sum()),
        "drives of 200 frames or more, model seen": int((table[:, 2] >= min(200, frames)).sum()),
        "median on the road, model seen": float(np.median(table[:, 2])),
        "picture and game agree, share": float(agree),
        "speed in the game, units/s": float(np.mean(of(1, "speeds"))),
        "speed in the model, units/s": float(np.mean(of(2, "speeds"))),
        "turning in the game, rad/s": float(np.mean(of(1, "turnings"))),
        "turning in the model, rad/s": float(np.mean(of(2, "turnings"))),
        "turning in the last third of the game, rad/s": float(np.mean(of(1, "turnings", last=frames // 3))),
        "turning in the last third of the model, rad/s": float(np.mean(of(2, "turnings", last=frames // 3))),
        "trajectory by instruments off by, share": float(np.mean(apart)),
    }


def frame_figures(drives: Sequence[tuple[RacingGame, Drive, Drive]], frame: Modality, names: Sequence[str]) -> Any:
    """Fréchet distances of the first and last frames: in the model, in the game, and there under other actions."""
    places = {
        "model": [made for _, _, made in drives],
        "game": [real for _, real, _ in drives],
        "game, blind": drive_blind([real.actions for _, real, _ in drives], frame.shape[-1]),
    }
    data = frames_of(prepare(reproductions()["racing/ect"].data), frame)
    figures = {}
    for network in load_networks(names, data):

        def moments(shown: torch.Tensor, network: FeatureNetwork = network) -> Moments:
            parts = (network(part) for part in frame.to_signal(shown).split(250))
            return Moments.of(torch.cat(list(parts)))

        reference = moments(data.batch(range(len(data)))[0])
        for place, driven in places.items():
            for end in ("first", "last"):
                shown = np.concatenate([np.stack(getattr(drive, end)) for drive in driven])
                stored = torch.from_numpy(shown).permute(0, 3, 1, 2)[:, :, None]
                figures[f"{network.name}, {end} {ENDS} in the {place}"] = frechet_distance(reference, moments(stored))
    return figures


def draw_top(drives: Sequence[tuple[RacingGame, Drive, Drive]], path: Path, side: int = 300) -> None:
    """Tracks from above: the car in the game black, by the game's instruments blue, by the model's red."""
    columns = 5
    sheet = Image.new("RGB", (columns * side, -(-len(drives) // columns) * side), "white")
    for number, (game, real, made) in enumerate(drives):
        lines = [np.array([real.begin[:2], *real.places]), real.trajectory(), made.trajectory()]
        every = np.concatenate(lines)
        middle = (every.min(axis=0) + every.max(axis=0)) / 2
        scale = 0.9 * side / max(float(np.ptp(every, axis=0).max()), 4 * ROAD_WIDTH)
        panel = Image.new("RGB", (side, side), "#d8e8d0")
        pen = ImageDraw.Draw(panel)

        def points(places: np.ndarray, middle: Any = middle, scale: float = scale) -> list[tuple[float, float]]:
            placed = (places - middle) * [scale, -scale] + side / 2
            return [(float(x), float(y)) for x, y in placed]

        road = points(np.concatenate([game.track, game.track[:1]]))
        pen.line(road, fill="#b8b8b8", width=max(1, round(ROAD_WIDTH * scale)), joint="curve")
        for places, colour in zip(lines, ("#202020", "#2e6f9e", "#e4572e"), strict=True):
            pen.line(points(places), fill=colour, width=2)
        x, y = points(np.array([real.begin[:2]]))[0]
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill="white", outline="#202020")
        pen.rectangle((0, 0, side - 1, side - 1), outline="white", width=2)
        sheet.paste(panel, (number % columns * side, number // columns * side))
    sheet.save(path)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder of a world, or of its run")
    parser.add_argument("--frames", type=int, default=300, help="frames of each drive; 0 drives nowhere")
    parser.add_argument("--features", nargs="+", default=(), help="feature networks that compare the drives' frames")
    parser.add_argument("--timed", type=int, default=500, help="frames whose time is taken; 0 for none")
    parser.add_argument("--long", type=int, default=9_000, help="frames over which memory is watched; 0 for none")
    parser.add_argument("--fps", type=float, default=RATE, help="rate of play for input to frame")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--steps", type=int, help="sampling steps of each frame; the model's default without")
    parser.add_argument("--top", type=Path, help="picture of the trajectories from above")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads[0])
    try:
        model = unistep.load(options.model, precision=options.precision)
        name, spec = check_world(model)
        figures: dict[str, Any] = {}
        if options.frames:
            drives = drive_both(model, name, options.frames, options.steps)
            figures |= driving_figures(drives, options.frames)
            if options.top is not None:
                draw_top(drives, options.top)
            if options.features:
                figures |= frame_figures(drives, model.config.chunk, options.features)
        for threads in options.threads if options.timed else ():
            torch.set_num_threads(threads)
            found = real_time(model, name, spec, options.timed, options.steps)
            found |= latency(model, spec, options.fps, min(options.timed, 250), options.steps)
            figures |= {f"{threads} threads: {key}": value for key, value in found.items()}
        if options.long:
            figures |= memory(model, name, spec, options.fps, options.long, options.steps)
    except ValueError as error:
        print(f"world: error: {error}", file=sys.stderr)
        return 2
    for key, value in figures.items():
        print(f"{key:48} {value:.3f}" if isinstance(value, float) else f"{key:48} {value}")
    facts = {"model": options.model, "hardware": hardware(), "torch": torch.__version__, "precision": model.precision}
    print(f"{facts['hardware']}, {facts['precision']}; PyTorch {facts['torch']}")
    if options.json is not None:
        options.json.write_text(json.dumps(facts | {"figures": figures}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
