"""What a network of notes should look like: each variant is trained for the same number of steps on one instrument.

    python benchmarks/notes_variants.py picture frames frames-places recipe [--data notes:piano] [--steps 500]

Prints what the denoiser makes of pure noise in one call and in 18 Heun steps, with the conditions of held-out notes:
the log-spectral distance to the nearest of those with the same condition, in decibels, and the share of pitches that
are within 50 cents by YIN.
Needs Debian's packages fluidsynth and fluid-soundfont-gm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from unistep.core.timesteps import LogNormal
from unistep.data import DataConfig, prepare
from unistep.evaluation import load_features
from unistep.evaluation.hardware import hardware
from unistep.evaluation.note_metrics import NoteMetricAccumulator, NoteMetrics
from unistep.hub import load
from unistep.nets.unet import UNetConfig
from unistep.recipes.shipped_notes import denoising
from unistep.training.ema import PowerEMA
from unistep.training.run import train
from unistep.training.run_config import RunConfig

SAMPLES = 64
"""Held-out notes that are listened to."""


def variant(name: str) -> RunConfig:
    """The recipe of the teacher with one thing, or a few, changed.

    Raises:
        ValueError: If there is no such variant.
    """
    recipe = denoising()
    network: Any = recipe.model.network
    frames = network.position_sizes
    picture = UNetConfig(channels=2, patch=8, widths=(64, 128), blocks=(1, 2))
    networks = {
        "recipe": network,
        "picture": picture,
        "picture-places": replace(picture, position_sizes=(256, *frames)),
        "frames": replace(network, position_sizes=(), gated_skip=False),
        "frames-places": replace(network, gated_skip=False),
        "frames-mask": replace(network, position_sizes=()),
        "narrow-embedding": replace(network, embedding_dim=256),
    }
    times = {"times-of-pictures": LogNormal(mean=-1.2, std=1.2), "times-higher": LogNormal(mean=2.0, std=1.5)}
    if name in times:
        return replace(recipe, objective=replace(recipe.objective, times=times[name]))
    if name not in networks:
        raise ValueError(f"there is no variant {name!r}; there are {', '.join([*networks, *times])}")
    return replace(recipe, model=replace(recipe.model, network=networks[name]))


def measure(name: str, data: str, steps: int, threads: int) -> None:
    """Train a variant, listen to it, and print a row of a table."""
    emas = (PowerEMA(sigma_rel=0.1),)
    config = replace(variant(name), data=DataConfig(source=data), max_steps=steps, emas=emas, threads=threads)
    config = replace(config, checkpoint_every="1000h", sample_every="1000h")
    test = prepare(DataConfig(source=f"{data}:test"), progress=False)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        train(config, Path(folder) / "run", device="cpu", console=Console(quiet=True))
        seconds = time.process_time() - begun
        model = load(Path(folder) / "run")
    features = load_features("spectrum", model.modality)
    cells = []
    for how in ({"steps": 1, "solver": "euler"}, {"steps": 18, "solver": "heun"}):
        metrics = NoteMetrics(test, features, SAMPLES, seed=0)
        accumulator = NoteMetricAccumulator(metrics, real=False)
        accumulator.update(model.sample(SAMPLES, **metrics.condition, **how), torch.empty(SAMPLES, 0))
        found = accumulator.compute()
        cells.append(f"{found['LSD ↓']:.2f} | {found['tracker ↑']:.0%}")
    parameters = sum(p.numel() for p in model.map.parameters()) / 1e6
    print(f"| `{name}` | {parameters:.1f} M | {seconds:.0f} | {' | '.join(cells)} |", flush=True)


def main() -> int:
    """Measure each variant that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--data", default="notes:piano")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"{hardware('cpu')}, {options.threads} threads; {options.data}, {options.steps} steps of 32 notes")
    print("| variant | parameters | processor s | LSD, 1 call | pitch | LSD, 35 calls | pitch |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    try:
        for name in options.variants:
            measure(name, options.data, options.steps, options.threads)
    except ValueError as error:
        print(f"notes_variants: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
