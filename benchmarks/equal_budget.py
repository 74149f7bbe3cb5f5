"""Compare training recipes at equal compute: same teacher, network, data, seed and processor seconds.

    python benchmarks/equal_budget.py VARIANT [VARIANT ...] --teacher DIR --seconds 300 --json results.json

Every variant is trained with the package's own objectives, optimizers and averages for the same processor time
(evaluation is not counted), and measured along the way by the Fréchet distance of one- and two-step samples to the
60,000 training images on the shipped features. A variant's schedule runs from 0 to 1 over its budget. Processor
seconds are used rather than the clock's, so that other work on the machine does not decide the ranking.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from curves import plot
from race import race, shares
from variants import VARIANTS

from unistep.evaluation import quick_fd
from unistep.hub.load import load


def main() -> None:
    """Run the variants one after the other and add them to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+", choices=sorted(VARIANTS))
    parser.add_argument("--teacher", help="model folder or zoo name that every student starts from")
    parser.add_argument("--seconds", type=float, default=300.0, help="processor seconds for each variant")
    parser.add_argument("--num", type=int, default=2000, help="samples for each distance")
    parser.add_argument("--points", type=int, default=4, help="how often each variant is measured along its budget")
    parser.add_argument("--plot", type=Path, help="picture of the distances against the seconds")
    parser.add_argument("--json", type=Path, default=Path("equal_budget.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.teacher is not None:
        teacher = load(args.teacher, precision="auto")
        distance = quick_fd(teacher.sample(args.num, steps=18, solver="heun"))
        print(f"teacher, 18 Heun steps: {distance:.3f}", flush=True)
    for name in args.variants:
        # A denoiser keeps its own network: its size is what such a variant changes.
        size = None if name.startswith("teacher-") else args.teacher
        result = race(
            name, VARIANTS[name](), teacher=size, seconds=args.seconds, num=args.num, points=shares(args.points)
        )
        known = json.loads(args.json.read_text()) if args.json.exists() else []
        result |= {"budget": args.seconds, "teacher": args.teacher and round(distance, 3), "num": args.num}
        args.json.write_text(json.dumps([*known, result], indent=1) + "\n")
    if args.plot:
        plot(json.loads(args.json.read_text()), args.plot)


if __name__ == "__main__":
    main()
