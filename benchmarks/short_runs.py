"""How a short tuning of the shipped teacher goes, as in the demo, with a fixed number of steps: where does it improve?

    python benchmarks/short_runs.py --steps 120 --seed 1 --decay 0.5 --meant-for 0

The raw and the averaged weights are measured along the run, one step, on two feature networks that were trained
differently; the averaged ones in two steps, too, at the end. ``--cut 60:120`` is the plan of a computer that becomes
slower: from step 60 on, the run is to end after 120.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from race import fitted

from unistep.data import DataConfig, Loader, prepare
from unistep.demo.tune import tuning_config
from unistep.evaluation import quick_fd
from unistep.evaluation.feature_loading import load_features
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.training.build import build_objective, build_student, place
from unistep.training.ema import EMA
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import build_optimizer, set_rates
from unistep.training.pace import Leg, Pace
from unistep.training.parallel import World
from unistep.training.step import TrainStep

NETWORKS = ("fashion", "fashion-vicreg")


def plan(steps: int, cut: str) -> tuple[Pace, int]:
    """The plan of a run, and its number of steps."""
    pace = Pace([Leg(0, 0.0, steps)])
    if cut:
        at, steps = map(int, cut.split(":"))
        pace.add(Leg(at, pace.progress(at), steps))
    return pace, steps


def main() -> None:
    """Train, and print the distances along the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="fashion-teacher")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--cut", default="", help="STEP:TOTAL, a new plan on the way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=40, help="steps between two looks")
    parser.add_argument("--num", type=int, default=1000, help="samples for each distance")
    parser.add_argument("--lr", type=float, help="Muon's peak rate, and 0.4 of it for Adam")
    parser.add_argument("--decay", type=float, help="share of the run in which the rate falls")
    parser.add_argument("--meant-for", type=int, help="number of steps that the rates are meant for; 0 for any")
    parser.add_argument("--longest", type=float, help="most that they are multiplied with")
    args = parser.parse_args()
    torch.set_num_threads(1)
    teacher = load(args.teacher)
    config = tuning_config(args.teacher, teacher, 120, args.seed)
    asked = {name: getattr(args, name) for name in ("decay", "meant_for", "longest")}
    schedule = replace(config.schedule, **{name: value for name, value in asked.items() if value is not None})
    config = replace(config, schedule=schedule)
    if args.lr is not None:
        config = replace(config, optimizer=replace(config.optimizer, lr=args.lr, adam_lr=0.4 * args.lr))
    print(config.optimizer, schedule, flush=True)

    dataset, world = prepare(config.data, progress=False), World()
    model = fitted(config, dataset, teacher)
    student = build_student(config, model, teacher)
    objective = build_objective(config, student, teacher)
    place(objective, replace(config, model=model), world)
    options = LoopOptions.of(config)
    examples = Examples(model.modality, model.build_codec(), model.context, model.sigma_data)
    train_step = TrainStep(objective, Loader(dataset, config.batch_size, config.seed), examples, options, world)
    optimizer = build_optimizer(config.optimizer, student.net, objective, train_step.precision)
    ema = EMA(config.emas[0], student.net.parameters())
    real = prepare(DataConfig(source="fashion-mnist", split="train"), progress=False)
    networks = {name: load_features(name, real.modality, data=real) for name in NETWORKS}

    def distances(steps: int = 1) -> dict[str, float]:
        generator = Generator(student, model).to(world.device, train_step.precision)
        samples = generator.sample(args.num, steps=steps, batch_size=100, seed=123)
        objective.train()
        return {name: round(quick_fd(samples, real, features=network), 3) for name, network in networks.items()}

    pace, total = plan(args.steps, args.cut)
    objective.train()
    spent = 0.0
    for step in range(total):
        begin, progress = time.process_time(), pace.progress(step)
        gradient = train_step.gradient(step, progress)
        set_rates(optimizer, schedule.factor(step, progress, pace.share(step)))
        optimizer.step(step)
        ema.update(step + 1, config.batch_size)
        spent += time.process_time() - begin
        if (step + 1) % args.every and step + 1 < total:
            continue
        row = {"step": step + 1, "seconds": round(spent), "norm": round(gradient.norm, 1), "raw": distances()}
        ema.swap()
        row["average"] = distances()
        if step + 1 == total:
            row["average, two steps"] = distances(2)
        ema.swap()
        print(row, flush=True)


if __name__ == "__main__":
    main()
