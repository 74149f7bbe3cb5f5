"""What a training step of each method costs, as a ratio to a step of `fashion/ect`, in one run.

    python benchmarks/step_cost.py --threads 1 --rounds 7 --json step_cost.json
    python benchmarks/step_cost.py fashion/sct fashion/meanflow
    python benchmarks/step_cost.py fashion/tcm fashion/pcm --progress 0 --whole

With ``--whole`` each method has a second row in which its networks are called for all items of a batch, also for those
whose results are known without, as compiled networks are.

Same network widths, data, batch and device. The methods take turns, one gradient each, so that other work on the
machine falls on all alike; processor time is counted on a CPU and the clock on a GPU. The median of the rounds is
reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from unistep.core.flowmap import Map
from unistep.data import Loader, prepare
from unistep.evaluation.hardware import hardware
from unistep.hub.load import load
from unistep.recipes import reproductions
from unistep.training.build import build_objective, build_student, place
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.parallel import World
from unistep.training.step import TrainStep

YARDSTICK = "fashion/ect"


def stepper_of(name: str, batch: int, world: World) -> TrainStep:
    """The steps of a recipe, from the weights of the shipped models."""
    config = replace(reproductions()[name], batch_size=batch)
    teacher = load(config.teacher or "fashion-teacher")
    model = replace(config.model, fields=teacher.config.fields)
    student = build_student(config, model, teacher)
    objective = build_objective(config, student, teacher if config.teacher else None)
    place(objective, replace(config, model=model), world)
    objective.train()
    loader = Loader(prepare(config.data, progress=False), batch, config.seed)
    examples = Examples(model.modality, model.build_codec(), model.context, model.sigma_data)
    return TrainStep(objective, loader, examples, LoopOptions.of(config), world)


def call_for_all(train_step: TrainStep) -> None:
    """Let the networks pass for compiled ones, which see whole batches only."""
    for part in train_step.module.modules():
        if isinstance(part, Map):
            part.net._compiled_call_impl = part.net._call_impl


def main() -> None:
    """Take turns and print the ratios."""
    known = [name for name, config in reproductions().items() if config.model.kind != "denoiser"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="recipes; all without")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--progress", type=float, default=0.9, help="share of the training that is done")
    parser.add_argument("--whole", action="store_true", help="also call the networks for all items")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    unknown = set(args.methods) - set(known)
    if unknown:
        parser.error(f"no such recipe: {', '.join(sorted(unknown))}; one of {', '.join(known)}")
    torch.set_num_threads(args.threads)
    world = World(device=torch.device(args.device))
    clock = time.process_time if world.device.type == "cpu" else time.perf_counter
    names = list(dict.fromkeys([YARDSTICK, *(args.methods or known)]))
    steppers = {name: stepper_of(name, args.batch_size, world) for name in names}
    if args.whole:
        for name in names:
            steppers[f"{name}, all items"] = stepper_of(name, args.batch_size, world)
            call_for_all(steppers[f"{name}, all items"])
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for turn in range(args.rounds + 1):
        for name, train_step in steppers.items():
            begin = clock()
            train_step.gradient(turn, args.progress)
            if world.device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first is a warm-up
                seconds[name].append(clock() - begin)
    median = {name: statistics.median(found) for name, found in seconds.items()}
    facts = f"batch {args.batch_size}, progress {args.progress:g}, {args.rounds} rounds"
    facts += f"; {YARDSTICK} {median[YARDSTICK]:.3f} s a step"
    print(f"{hardware(world.device)}; {facts}")
    for name, value in median.items():
        print(f"{name:<28}{value / median[YARDSTICK]:6.2f}")
    if args.json:
        ratios = {name: value / median[YARDSTICK] for name, value in median.items()}
        args.json.write_text(json.dumps({"hardware": hardware(world.device), "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
