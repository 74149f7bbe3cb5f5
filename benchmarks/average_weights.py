"""Average the weights of models that began as one, and measure the average at several shares.

    python benchmarks/average_weights.py MODEL OTHER --shares 0 0.25 0.5 0.75 1 --num 3000
    python benchmarks/average_weights.py MODEL OTHER --shares 0.25 --out averaged

A share is that of ``OTHER``. Runs that went different ways from one start err in different directions, which the
average cancels (Wortsman et al. 2022, arXiv 2203.05482). Samples are of other seeds than those that `unistep evaluate`
takes, so that its figures are none of those by which a share was chosen.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from unistep.evaluation import quick_fd
from unistep.hub import save
from unistep.hub.load import load

SEED = 1_000_000
"""First seed of the samples."""


def main() -> None:
    """Average, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("other")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--num", type=int, default=3000, help="samples for each distance; 0 measures none")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="folder for the model of the last share")
    args = parser.parse_args()
    mine, theirs = (load(name, precision="auto") for name in (args.model, args.other))
    ours = {name: value.clone() for name, value in mine.map.net.state_dict().items()}
    others = theirs.map.net.state_dict()
    for share in args.shares:
        average = {name: torch.lerp(value, others[name], share) for name, value in ours.items()}
        mine.map.net.load_state_dict(average)
        sampled = [mine.sample(args.num, steps=n, batch_size=100, seed=SEED) for n in args.steps if args.num]
        print(share, *(f"{quick_fd(x):.3f}" for x in sampled), flush=True)
    if args.out is not None:
        provenance = mine.config.provenance | {"weights": f"{1 - share:g} of {args.model}, {share:g} of {args.other}"}
        save(replace(mine.config, provenance=provenance), average, args.out, "# An average of two models\n")


if __name__ == "__main__":
    main()
