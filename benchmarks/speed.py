"""What sampling and training cost beyond the network itself: ratios within one run.

    python benchmarks/speed.py [--threads 2] [--json FILE]

- one-step sampling (``Generator.sample`` at batch 64) against the bare network's forward pass;
- one step against the teacher's 18 Heun steps, the same network and batch;
- the same in bfloat16, where the hardware is fast at it;
- the package's training step, as it is and compiled, against a plain float32 eager loop with AdamW, channels first, on
  the same network;
- the share of a training step that loading its data takes;
- ``unistep --help``.

Each pair is timed in turn, several times, and the medians are compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import unistep
from unistep.data import DataConfig, Loader, prepare
from unistep.evaluation.hardware import hardware
from unistep.precision import has_fast_bf16
from unistep.recipes.shipped_fashion import denoising, ect
from unistep.training.build import build_objective, build_student, place
from unistep.training.ema import EMA
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import build_optimizer, set_rates
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig
from unistep.training.step import TrainStep

BATCH = 64


def medians(*calls: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of each call; the calls take turns, after one round of warm-up."""
    times: list[list[float]] = [[] for _ in calls]
    for index in range(rounds + 1):
        for call, kept in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            if index:
                kept.append(time.perf_counter() - begin)
    return [statistics.median(kept) for kept in times]


def sampling() -> dict[str, float]:
    """Overhead of one-step sampling, and its speed-up over the teacher."""
    torch.manual_seed(0)
    students, teachers = (unistep.Generator(c.build(), c) for c in (ect().model, denoising().model))
    for generator in (students, teachers):
        generator.map.to(memory_format=torch.channels_last)
    x, t = torch.randn(BATCH, *students.shape), torch.zeros(BATCH)
    label = {"label": unistep.Label(torch.zeros(BATCH, dtype=torch.long))}

    def bare() -> None:
        with torch.inference_mode():
            students.map.net(x, t, None, label)

    forward, one = medians(bare, lambda: students.sample(BATCH, steps=1, batch_size=BATCH), rounds=15)
    one_again, heun = medians(
        lambda: students.sample(BATCH, steps=1, batch_size=BATCH),
        lambda: teachers.sample(BATCH, steps=18, solver="heun", batch_size=BATCH),
        rounds=3,
    )
    faster = {}
    if has_fast_bf16(students.device):
        students.to("cpu", "bf16")
        (fast,) = medians(lambda: students.sample(BATCH, steps=1, batch_size=BATCH), rounds=15)
        faster = {"one-step samples/s in bf16": BATCH / fast}
    return {
        "bare forward, ms": forward * 1e3,
        "one-step sampling, ms": one * 1e3,
        "one-step sampling / bare forward": one / forward,
        "18 Heun steps / one step": heun / one_again,
        "one-step samples/s": BATCH / one,
        **faster,
    }


def package_step(config: RunConfig, loader: Loader, *, compiled: bool) -> tuple[Callable[[], None], TrainStep]:
    """A training step as the trainer takes it: gradient, optimizer, averages."""
    student = build_student(config, config.model, None)
    objective = build_objective(config, student, None)
    place(objective, config, World())
    if compiled:
        student.net.compile()
    model = config.model
    examples = Examples(model.modality, model.build_codec(), model.context, model.sigma_data)
    train_step = TrainStep(objective, loader, examples, LoopOptions.of(config), World())
    optimizer = build_optimizer(config.optimizer, student.net, objective, train_step.precision)
    emas = [EMA(ema, student.net.parameters()) for ema in config.emas]
    steps = itertools.count()

    def step() -> None:
        number = next(steps)
        train_step.gradient(number, 0.0)
        set_rates(optimizer, 1.0)
        optimizer.step()
        for ema in emas:
            ema.update(number + 1, config.batch_size)

    return step, train_step


def training() -> dict[str, float]:
    """The package's training step against a plain loop, and the share of data loading."""
    config = replace(denoising(), data=DataConfig(split="test"), batch_size=BATCH)
    loader = Loader(prepare(config.data, progress=False), BATCH, 0)
    ours, train_step = package_step(config, loader, compiled=False)
    compiled, _ = package_step(config, loader, compiled=True)
    plain_student = build_student(config, config.model, None)
    plain_objective = build_objective(config, plain_student, None)
    plain_optimizer = torch.optim.AdamW(plain_student.parameters(), lr=1e-3)
    images, condition = loader.batch(0)
    x0 = images.float() / 127.5 - 1

    def plain() -> None:
        plain_optimizer.zero_grad()
        loss = plain_objective(x0, condition, generator=None, progress=0.0).per_example.mean()
        loss.backward()
        plain_optimizer.step()

    batches = itertools.count()

    def load() -> None:
        batch, _ = loader.batch(next(batches))
        config.model.modality.to_signal(batch)

    theirs, mine, fast, loading = medians(plain, ours, compiled, load, rounds=7)
    return {
        "arithmetic is bf16": float(train_step.precision == "bf16"),
        "plain loop, images/s": BATCH / theirs,
        "training step, images/s": BATCH / mine,
        "training step / plain loop": theirs / mine,
        "compiled training step / plain loop": theirs / fast,
        "data loading, share of a step": loading / mine,
    }


def command_line() -> dict[str, float]:
    """Seconds until ``unistep --help`` has answered."""
    call = [sys.executable, "-m", "unistep", "--help"]
    (seconds,) = medians(lambda: subprocess.run(call, check=True, capture_output=True), rounds=5)
    return {"unistep --help, s": seconds}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = {**sampling(), **training(), **command_line()}
    print(f"{hardware('cpu')}, {args.threads} threads, torch {torch.__version__}")
    for name, value in figures.items():
        print(f"{name:40} {value:10.3f}")
    if args.json:
        rounded = {name: round(value, 4) for name, value in figures.items()}
        text = json.dumps({"hardware": hardware("cpu"), "threads": args.threads, "figures": rounded}, indent=1)
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
