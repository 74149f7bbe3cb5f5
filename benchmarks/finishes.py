"""FD loss as the end of each method: one-step models before and after a few steps of it, by networks that only report.

    python benchmarks/method_sets.py fashion --json sets.json --models kept
    python benchmarks/finishes.py fashion kept --steps 40 --json finishes.json
    python benchmarks/finishes.py --json finishes.json  # only the table

Each model that ``method_sets.py`` kept is post-trained as the last stage of a run does it, with its batches, rate and
selection, and then measured beside itself as it was: Fréchet distances in one step and in two, and the recall of one
step, which falls where a model loses variety.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from unistep.data import prepare
from unistep.evaluation import evaluate, feature_roles
from unistep.evaluation.samplers import Setting
from unistep.recipes import recipe, reproductions
from unistep.training.finish import BATCH_SIZE, OPTIMIZER, RATE, SCHEDULE, SELECTION
from unistep.training.run import train

CALLS = (1, 2)


def distances(model: str, data: str, num: int) -> dict[str, Any]:
    """Distances and recalls of a model by network and number of calls: ``NETWORK/CALLS``."""
    items = prepare(reproductions()[f"{data}/ect"].data, progress=False)
    names = feature_roles(items).reporting
    settings = tuple(Setting(steps=calls) for calls in CALLS)
    sweep = {kind: settings for kind in ("consistency", "flow_map")}
    report = evaluate(model, items, features=names, num=num, sweep=sweep, noise=False, progress=False)
    found: dict[str, Any] = {}
    for row, calls in zip((row for row in report.rows if row.kind != "sanity"), CALLS, strict=True):
        for name, figures in zip(names, row.figures, strict=True):
            found[f"{name}/{calls}"] = round(figures.frechet, 5)
            if calls == 1:
                found[f"recall {name}"] = round(figures.recall, 3)
    return found


def finish(data: str, model: Path, steps: int, num: int) -> dict[str, Any]:
    """Post-train a model in this process, and measure it before and after."""
    torch.set_num_threads(1)
    config = replace(
        recipe("fd", reproductions()[f"{data}/ect"].data),
        init=str(model),
        optimizer=replace(OPTIMIZER, lr=RATE),
        schedule=SCHEDULE,
        selection=SELECTION,
        batch_size=BATCH_SIZE,
        max_steps=steps,
    )
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        begin = time.process_time()
        train(config, out)
        spent = time.process_time() - begin
        after = distances(str(out / "model"), data, num)
    return {"seconds": round(spent), "before": distances(str(model), data, num), "after": after}


def table(results: list[dict[str, Any]]) -> str:
    """Each method before and after, as Markdown."""
    lines = []
    for data in dict.fromkeys(row["set"] for row in results):
        rows = [row for row in results if row["set"] == data]
        names = list(rows[0]["before"])
        heads = " | ".join(name.replace("/", ", ") for name in names)
        lines += [f"| {data} | {heads} |", f"|---|{'---:|' * len(names)}"]
        for row in rows:
            cells = [f"{row['before'][name]:.3g} → {row['after'][name]:.3g}" for name in names]
            lines.append(f"| `{row['method']}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Post-train every model that is kept and not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="the set of the models; none for the table alone")
    parser.add_argument("models", nargs="?", type=Path, help="folder with the models that method_sets.py kept")
    parser.add_argument("--steps", type=int, default=40, help=f"of {BATCH_SIZE} samples")
    parser.add_argument("--num", type=int, default=1000, help="samples for each distance")
    parser.add_argument("--json", type=Path, default=Path("finishes.json"), help="results, each added when it is there")
    parser.add_argument("--single", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.single:
        found = finish(args.data, args.models / args.single, args.steps, args.num)
        return args.json.write_text(json.dumps(found)) and None
    results: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json.exists() else []
    folders = sorted(args.models.glob(f"{args.data}-*-0")) if args.data else []
    for folder in folders:
        method = folder.name.removeprefix(f"{args.data}-").removesuffix("-0")
        if any((row["set"], row["method"]) == (args.data, method) for row in results):
            continue
        with TemporaryDirectory() as own:
            part = Path(own) / "part.json"
            words = [sys.executable, __file__, args.data, str(args.models), "--single", folder.name]
            words += ["--steps", str(args.steps), "--num", str(args.num), "--json", str(part)]
            subprocess.run(words, check=True)
            found = json.loads(part.read_text())
        results.append({"set": args.data, "method": method, "steps": args.steps, **found})
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
