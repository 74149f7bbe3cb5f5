r"""How fast drives of `racing` are recorded, and how well its drivers keep to the road.

    python benchmarks/racing.py

Recording is timed in this one process. Each driver then drives on the tracks of the test split, from the start line.
The one that only sees is also given frames that are blurred (a Gaussian of 1.2 pixels) and grainy (of 8 levels).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from unistep.data.sources.racing import DRIVES, seed_of
from unistep.data.sources.racing_drivers import Action, MixedDriver, RandomDriver, ScriptedDriver
from unistep.data.sources.racing_drives import Drive
from unistep.data.sources.racing_game import RacingGame
from unistep.data.sources.racing_sight import drive_by_sight
from unistep.evaluation.hardware import hardware

Policy = Callable[[RacingGame], Action]


def worn(frame: np.ndarray, values: np.random.Generator) -> np.ndarray:
    """A frame such as a model may make."""
    blurred = np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.2)))
    return np.clip(blurred + values.normal(0, 8, blurred.shape), 0, 255).astype(np.uint8)


def policies(seed: int) -> dict[str, Policy]:
    """Every driver, by name."""
    values = [np.random.default_rng([seed, i]) for i in range(5)]
    return {
        "scripted, any values": ScriptedDriver(values[0], keys=False).act,
        "scripted, keys": ScriptedDriver(values[1], keys=True).act,
        "mixed": MixedDriver(values[2]).act,
        "random": RandomDriver(values[3]).act,
        "by sight": lambda game: drive_by_sight(game.frame),
        "by sight, worn frames": lambda game: drive_by_sight(worn(game.frame, values[4])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=400, help="length of each drive")
    frames = parser.parse_args().frames
    print(hardware())
    start, used = time.perf_counter(), time.process_time()
    Drive(driver="scripted", seed=seed_of("test", 0), first=0, frames=frames, size=64, held=2).record()
    passed, used = time.perf_counter() - start, time.process_time() - used
    print(f"recorded: {frames / passed:.0f} frames per second, {frames / used:.0f} per second of processor time")
    print(f"{'driver':24}{'tracks of ' + str(DRIVES['test']):>14}{'on the road':>14}{'units/s':>10}")
    for name in policies(0):
        kept, shares, speeds = 0, [], []
        for number in range(DRIVES["test"]):
            game, policy = RacingGame(seed_of("test", number)), policies(number)[name]
            on = []
            for _ in range(frames):
                game.advance(policy(game))
                on.append(game.on_road)
                speeds.append(game.speed)
            kept += all(on)
            shares.append(np.mean(on))
        print(f"{name:24}{kept:>14}{np.mean(shares):>14.3f}{np.mean(speeds):>10.1f}", flush=True)


if __name__ == "__main__":
    main()
