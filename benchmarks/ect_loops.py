"""Images per second of a training step of ``ect`` beside those of a plain loop of the same method, in one run.

    python benchmarks/ect_loops.py fashion-teacher --data fashion-mnist:test
    python benchmarks/ect_loops.py base-64 --data folder:PATH --size 64 --batch-size 32 --compile

The plain loop is Easy Consistency Tuning as papers write it: the student at the noisier level and, without gradient,
the same network at the closer one, for all items of the batch; RAdam; an average after every step; autocast where it
computes in bfloat16, and nothing compiled. The network, its weights, the data, the batch, the levels and the arithmetic
are the same in all rows, so that loops are compared and not networks:

- ``data, RAdam``: the package's step with the optimizer of the plain loop;
- ``data, Muon``: with the recipe's optimizer;
- ``recipe``: with targets along the ODE of the teacher, guided where it has a condition, as ``unistep train ect``;
- ``recipe, reuse``: the same with ``--objective.teacher-reuse 4``; four steps, one of which asks the teacher, count as
  one turn;
- with ``--compile`` also ``data, Muon, compiled``.

The rows take turns, one step each, so that other work on the machine falls on all alike; processor time is counted on a
CPU and the clock on a GPU. The medians of the rounds are compared at one moment of each stage.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unistep.core.condition import Condition
from unistep.data import Loader, prepare
from unistep.data.options import data_config
from unistep.evaluation.hardware import hardware
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.objectives.ect import ECTConfig
from unistep.objectives.reuse import WINDOW
from unistep.optimizers import AdamConfig
from unistep.precision import autocast, resolve_precision
from unistep.recipes.consistency_methods import ect
from unistep.training.build import build_objective, build_student, fit_model_to_data, place
from unistep.training.compiled import compile_networks
from unistep.training.ema import EMA
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import build_optimizer, set_rates
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig
from unistep.training.step import TrainStep

REUSE = 4
"""How many steps use an answer of the teacher."""

Step = Callable[[float], None]
"""Takes a step at a share of the training."""


def plain_loop(config: RunConfig, teacher: Generator, loader: Loader, world: World) -> Step:
    """Two passes of the whole batch, RAdam and an average, with nothing of the trainer."""
    objective, model, device = config.objective, config.model, world.device
    assert isinstance(objective, ECTConfig)
    student = build_student(config, model, teacher).to(device).train().requires_grad_(True)
    average = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.RAdam(student.parameters(), lr=1e-4)
    precision, steps = resolve_precision(config.precision, device), itertools.count()

    def denoised(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        with autocast(precision, device):
            return student(x, sigma, None, condition).float()

    def step(progress: float) -> None:
        stored, condition = loader.batch(next(steps))
        x0 = model.modality.to_signal(stored).to(device)
        condition = {name: value.to(device) for name, value in condition.items()}
        sigma = (objective.times.mean + objective.times.std * torch.randn(len(x0), device=device)).exp()
        closer = objective.curriculum.closer(sigma, progress)
        noise = torch.randn_like(x0)
        wide = (-1, *[1] * (x0.ndim - 1))
        optimizer.zero_grad(set_to_none=True)
        answer = denoised(x0 + sigma.view(wide) * noise, sigma, condition)
        with torch.no_grad():
            wanted = denoised(x0 + closer.view(wide) * noise, closer, condition)
            wanted = torch.where((closer > 0).view(wide), wanted, x0)
        distance = (answer - wanted).flatten(1).square().sum(dim=1).sqrt()
        (distance / (sigma - closer)).mean().backward()
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), student.parameters(), strict=True):
                kept.lerp_(new, 1e-4)

    return step


def package_step(
    config: RunConfig,
    teacher: Generator,
    loader: Loader,
    world: World,
    numbers: Iterator[int],
    *,
    compiled: bool = False,
) -> Step:
    """A step as the trainer takes it: gradient, clipping, optimizer, averages.

    Args:
        config: The run.
        teacher: What it begins with.
        loader: Its data.
        world: Where it runs.
        numbers: Which step of the run each is.
        compiled: Whether to compile the networks.
    """
    student = build_student(config, config.model, teacher)
    guide = None if config.objective.target == "data" else teacher  # type: ignore[attr-defined]
    objective = build_objective(config, student, guide)
    place(objective, config, world)
    objective.train()
    model = config.model
    examples = Examples(model.modality, model.build_codec(), model.context, model.sigma_data)
    train_step = TrainStep(objective, loader, examples, LoopOptions.of(config), world)
    if compiled:
        compile_networks(objective, train_step)
    optimizer = build_optimizer(config.optimizer, student.net, objective, train_step.precision)
    emas = [EMA(ema, student.net.parameters()) for ema in config.emas]

    def step(progress: float) -> None:
        number = next(numbers)
        train_step.gradient(number, progress)
        set_rates(optimizer, config.schedule.factor(number, progress))
        optimizer.step(number)
        for ema in emas:
            ema.update(number + 1, config.batch_size)

    return step


def main() -> None:
    """Take turns and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="denoiser that all begin with: its network is the one that is trained")
    parser.add_argument("--data", required=True, help="source, such as folder:PATH")
    parser.add_argument("--size", type=int, help="pixels a side of a folder's images")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--compile", action="store_true", help="also compile the package's step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world = World(device=torch.device(args.device))
    data = data_config(args.data, **({} if args.size is None else {"size": args.size}))
    dataset = prepare(data, progress=False)
    teacher = load(args.teacher)
    recipe = ect().run("ect", data, teacher.config.modality, teacher.config.network, teacher=args.teacher)
    recipe = replace(recipe, batch_size=args.batch_size, precision=args.precision)
    recipe = replace(recipe, model=fit_model_to_data(recipe.model, dataset))
    objective = recipe.objective
    assert isinstance(objective, ECTConfig)
    if not any(field.drawn for field in recipe.model.fields.values()):
        recipe = replace(recipe, objective=replace(objective, guidance=1.0))
    of_data = replace(recipe, objective=replace(objective, target="data", guidance=1.0))
    radam = replace(of_data, optimizer=AdamConfig(kind="radam", lr=1e-4))
    reusing = replace(recipe, objective=replace(recipe.objective, teacher_reuse=REUSE))
    returning = (draw + again * WINDOW for draw in itertools.count() for again in range(REUSE))
    loader = Loader(dataset, args.batch_size, 0)
    steps = {
        "plain loop": plain_loop(of_data, teacher, loader, world),
        "data, RAdam": package_step(radam, teacher, loader, world, itertools.count()),
        "data, Muon": package_step(of_data, teacher, loader, world, itertools.count()),
        "recipe": package_step(recipe, teacher, loader, world, itertools.count()),
        "recipe, reuse": package_step(reusing, teacher, loader, world, returning),
    }
    if args.compile:
        steps["data, Muon, compiled"] = package_step(of_data, teacher, loader, world, itertools.count(), compiled=True)
    clock = time.process_time if world.device.type == "cpu" else time.perf_counter
    print(f"{hardware(world.device)}, {args.threads} threads, torch {torch.__version__}")
    print(f"{args.teacher}, {args.data}, batch {args.batch_size}, {resolve_precision(args.precision, world.device)}")
    figures: dict[str, dict[str, float]] = {}
    for stage in range(objective.curriculum.stages):
        progress = (stage + 0.5) / objective.curriculum.stages
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(args.rounds + 1):
            for name, step in steps.items():
                count = REUSE if name == "recipe, reuse" else 1
                begin = clock()
                for _ in range(count):
                    step(progress)
                if world.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:  # the first is a warm-up
                    taken[name].append((clock() - begin) / count)
        rates = {name: args.batch_size / statistics.median(found) for name, found in taken.items()}
        figures[f"stage {stage + 1}"] = rates
        for name, rate in rates.items():
            ratio = rate / rates["plain loop"]
            print(f"stage {stage + 1}  {name:<22}{rate:8.1f} images/s{ratio:7.2f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"hardware": hardware(world.device), "images/s": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
