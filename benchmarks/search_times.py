"""Find the intermediate times of a one-step model and write them into its ``config.json``.

    python benchmarks/search_times.py MODEL_FOLDER --data fashion-mnist --steps 2 4 --num 2000

Greedy ternary search over noise levels, as Song et al. 2023 do; the distance is that of the features that select
models of such data, and samples have the conditions of its items.
"""

from __future__ import annotations

import argparse

from unistep.evaluation.times import best_times, write_times
from unistep.hub.load import find, load


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--steps", type=int, nargs="+", default=[2])
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--levels", type=int, default=32)
    args = parser.parse_args()
    generator = load(args.model, precision="auto")
    for steps in sorted(args.steps):
        generator = best_times(
            generator,
            steps,
            data=args.data,
            num=args.num,
            levels=args.levels,
            on_try=lambda times, score: print(f"{[round(t, 3) for t in times]}: {score:.3f}", flush=True),
        )
        write_times(generator, find(args.model))
        print(f"{steps} steps: {generator.config.times[str(steps)]}")


if __name__ == "__main__":
    main()
