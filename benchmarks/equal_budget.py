"""Compare training recipes at equal compute: same teacher, network, data, seed and processor seconds.

    python benchmarks/equal_budget.py VARIANT [VARIANT ...] --teacher DIR --seconds 300 --json results.json

Every variant is trained with the package's own objectives, optimizers and averages for the same processor time
(evaluation is not counted), and judged along the way by the Fréchet distance of one- and two-step samples to the
60,000 training images on the shipped features. A variant's schedule runs from 0 to 1 over its budget. Processor
seconds are used rather than the clock's, so that other work on the machine does not decide the ranking.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from variants import VARIANTS

from unistep.data import Loader, prepare
from unistep.evaluation import quick_fd
from unistep.generator import Generator
from unistep.hub.load import load
from unistep.training.build import build_objective, build_student, place
from unistep.training.ema import EMA
from unistep.training.optim import build_optimizer, set_rates
from unistep.training.parallel import World
from unistep.training.step import Stepper

POINTS = (0.5, 1.0)
"""Shares of the budget at which a variant is judged."""


def run_variant(name: str, teacher: str | None, seconds: float, num: int) -> dict[str, object]:
    """Train one variant for ``seconds`` of processor time; its distances along the way."""
    config = VARIANTS[name]()
    config = replace(config, teacher=teacher if config.teacher is not None else None)
    source = load(teacher) if teacher is not None else None
    dataset, world = prepare(config.data, progress=False), World()
    network = (
        config.model.network if source is None else replace(source.config.network, dropout=config.model.network.dropout)
    )
    fields = {} if source is None else source.config.fields
    model = replace(config.model, network=network, fields=fields or config.model.fields)
    student = build_student(config, model, source if config.teacher is not None else None)
    objective = build_objective(config, student, source if config.teacher is not None else None)
    place(objective, model, world)
    stepper = Stepper(objective, Loader(dataset, config.batch_size, config.seed), model.modality, config, world)
    optimizer = build_optimizer(config.optimizer, student.net, objective)
    emas = [EMA(ema, student.net.parameters()) for ema in config.emas]
    objective.train()
    curve: list[dict[str, object]] = []
    step, spent = 0, 0.0
    for point in POINTS:
        while spent < point * seconds:
            begin = time.process_time()
            progress = min(spent / seconds, 1.0)
            gradient = stepper.gradient(step, progress)
            set_rates(optimizer, config.schedule.factor(step, progress))
            if gradient.norm < float("inf"):
                optimizer.step()
                objective.after_step(progress)
            step += 1
            for ema in emas:
                ema.update(step, config.batch_size)
            spent += time.process_time() - begin
        for ema in emas:
            ema.swap()
            generator = Generator(student, model)
            plan = [(1, None), (2, None)] if model.kind == "consistency" else [(18, "dpmpp2m")]
            row = {"seconds": round(spent), "images": step * config.batch_size, "weights": ema.config.name}
            for steps, solver in plan:
                row[f"fd_{steps}"] = round(quick_fd(generator.sample(num, steps=steps, solver=solver)), 3)
            ema.swap()
            curve.append(row)
            print(name, row, flush=True)
        objective.train()
    return {"variant": name, "images_per_second": round(step * config.batch_size / spent, 1), "curve": curve}


def main() -> None:
    """Run the variants one after the other and add them to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", choices=sorted(VARIANTS))
    parser.add_argument("--teacher", help="model folder or zoo name that every student starts from")
    parser.add_argument("--seconds", type=float, default=300.0, help="processor seconds for each variant")
    parser.add_argument("--num", type=int, default=2000, help="samples for each distance")
    parser.add_argument("--json", type=Path, default=Path("equal_budget.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.teacher is not None:
        teacher = load(args.teacher)
        distance = quick_fd(teacher.sample(args.num, steps=18, solver="heun"))
        print(f"teacher, 18 Heun steps: {distance:.3f}", flush=True)
    for name in args.variants:
        result = run_variant(name, args.teacher, args.seconds, args.num)
        known = json.loads(args.json.read_text()) if args.json.exists() else []
        result |= {"budget": args.seconds, "teacher": args.teacher and round(distance, 3), "num": args.num}
        args.json.write_text(json.dumps([*known, result], indent=1) + "\n")


if __name__ == "__main__":
    main()
