"""Every method of the family on clothes, emoji and notes, at equal processor seconds, by networks that only report.

    python benchmarks/method_sets.py fashion emoji notes --json sets.json
    python benchmarks/method_sets.py fashion emoji notes --json sets.json --seeds 1 2 --leading 5
    python benchmarks/method_sets.py fashion --json sets.json --models kept  # for finishes.py
    python benchmarks/method_sets.py --json sets.json  # only the tables

Each method is trained as ``unistep train METHOD --data SET --teacher SET-teacher`` would, from the teacher's weights
and network, in batches of 32 or 16 (methods that compare groups of samples keep theirs), with the guidance of the set
in every target that takes one. Truncated training spends half of its budget on ECT without guidance. A run is a process
of its own with one thread; runs that are in the file already are not repeated, so a comparison can be interrupted.

The score of a run is the geometric mean, over the networks that report on the set, of its distance over the teacher's
(10 steps of DPM-Solver++(2M), as many samples); that of a method with several seeds is the geometric mean of theirs,
with the half width of the 95 % interval of Student's t.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from methods import WEIGHT, guided
from race import race

from unistep.data import prepare
from unistep.evaluation import feature_roles, load_features, quick_fd
from unistep.generation.generator import Generator
from unistep.hub.load import load
from unistep.objectives.tcm import TCMConfig
from unistep.recipes import methods, recipe, reproductions
from unistep.recipes.method import TUNING_OPTIMIZER, TUNING_SCHEDULE
from unistep.training.run_config import RunConfig

GUIDANCE = {"fashion": WEIGHT, "emoji": 2.5, "notes": 1.0}
"""Guidance of the targets on each set; 1 for none, where the condition almost determines the signal."""
SECONDS = {"fashion": 150.0, "emoji": 320.0, "notes": 150.0}
"""Processor seconds of each run."""
BATCHES = {"fashion": 32, "emoji": 16, "notes": 16}
"""Examples per step, so few that there are about a hundred steps."""
SAMPLES = {"fashion": 1_000, "emoji": 400, "notes": 1_000}
"""Samples for each distance."""
NOT_FROM_A_TEACHER = ("denoising", "fd")
"""The teacher's own method, and post-training."""
WARMUP = 10
"""Steps in which the rate rises, at most: the fifty of longer runs would be half of these."""
OF_GROUPS = 64
"""Batches of a method that are larger than this are a part of it."""
CALLS = (1, 2, 4)
TEACHER_STEPS = 10
STUDENT_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Quantiles of Student's t at 97.5 %, by the number of seeds."""


def configuration(data: str, method: str) -> RunConfig:
    """How a method is trained on a set: as on any such data, from the weights of the set's teacher."""
    shipped = reproductions()[f"{data}/ect"]
    config = recipe(method, shipped.data)
    model = replace(config.model, modality=shipped.model.modality, codec=shipped.model.codec, times={})
    if reproductions()[f"fashion/{method}"].teacher is None:
        config = replace(config, optimizer=TUNING_OPTIMIZER, schedule=TUNING_SCHEDULE)
    schedule = replace(config.schedule, warmup_steps=min(config.schedule.warmup_steps, WARMUP))
    config = replace(config, schedule=schedule)
    size = config.batch_size if config.batch_size > OF_GROUPS else BATCHES[data]
    return replace(config, model=model, teacher="teacher", batch_size=size, objective=weighted(config.objective, data))


def weighted(objective: Any, data: str) -> Any:
    """An objective with the guidance of a set, where it takes one."""
    weight = GUIDANCE[data]
    if getattr(objective, "guidance", None) == WEIGHT:
        return replace(objective, guidance=weight)
    found = guided(objective).get("guided") if weight != 1 else None
    if found is None or weight == WEIGHT:
        return found or objective
    target = found.guidance
    if isinstance(target, float):
        return replace(found, guidance=weight)
    return replace(found, guidance=replace(target, **{"kappa": 1 - 1 / weight} if target.kappa else {"omega": weight}))


def reports(data: str) -> Callable[[Generator], dict[str, float]]:
    """What measures a model of a set: distances by network and number of calls, ``NETWORK/CALLS``."""
    items = prepare(reproductions()[f"{data}/ect"].data, progress=False)
    networks = {name: load_features(name, items.modality, data=items) for name in feature_roles(items).reporting}

    def measured(generator: Generator) -> dict[str, float]:
        teacher = generator.kind == "denoiser"
        found = {}
        for calls in (TEACHER_STEPS,) if teacher else CALLS:
            given = {"solver": "dpmpp2m", "guidance": GUIDANCE[data]} if teacher else {}
            samples = generator.sample(SAMPLES[data], steps=calls, **given)  # type: ignore[arg-type]
            for name, network in networks.items():
                found[f"{name}/{calls}"] = round(quick_fd(samples, items, features=network), 5)
        return found

    return measured


def run(data: str, method: str, seed: int, seconds: float, models: Path | None) -> dict[str, Any]:
    """Train and measure in this process; the model is kept in ``models``, where that is given."""
    torch.set_num_threads(1)
    teacher = f"{data}-teacher"
    measured = reports(data)
    if method == "teacher":
        return {"images": 0, **measured(load(teacher, precision="fp32"))}
    config = replace(configuration(data, method), seed=seed)
    common: dict[str, Any] = {"num": SAMPLES[data], "points": (1.0,), "measured": measured, "suited": True}
    if models is not None:
        common["keep"] = models / f"{data}-{method}-{seed}"
    if not isinstance(config.objective, TCMConfig):
        return last(race(method, config, teacher=teacher, seconds=seconds, **common))
    first = configuration(data, "ect")
    first = replace(first, seed=seed, objective=replace(first.objective, guidance=1.0))  # type: ignore[call-arg]
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        spent = {
            "num": SAMPLES[data],
            "points": (1.0,),
            "measured": lambda generator: {},
            "keep": model,
            "suited": True,
        }
        before = last(race("ect", first, teacher=teacher, seconds=seconds / 2, **spent))
        after = last(race(method, config, teacher=str(model), seconds=seconds / 2, **common))
    return after | {name: before[name] + after[name] for name in ("seconds", "images")}


def last(result: dict[str, Any]) -> dict[str, Any]:
    """The end of a run, with the steps that were left out because their gradient was not finite."""
    return {**result["curve"][-1], "skipped": result["skipped"]}


def complete(data: str, method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """A run in a process of its own, or why there is none."""
    with TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"
        words = [sys.executable, __file__, data, "--single", method, "--seeds", str(seed), "--json", str(part)]
        words += ["--seconds", str(args.budget[data])]
        if args.models is not None:
            words += ["--models", str(args.models)]
        done = subprocess.run(words, check=False, stderr=subprocess.PIPE, text=True)
        found = json.loads(part.read_text()) if part.exists() else {"failed": done.stderr.strip().splitlines()[-1:]}
    return {"set": data, "method": method, "seed": seed, "budget": args.budget[data], **found}


def scores(results: Iterable[dict[str, Any]], data: str, method: str, calls: int) -> list[float]:
    """The score of each seed of a method; infinite for one that failed."""
    rows = [row for row in results if row["set"] == data]
    teacher = next((row for row in rows if row["method"] == "teacher"), {})
    found = []
    for row in (row for row in rows if row["method"] == method):
        of = {key.rpartition("/")[0]: value for key, value in teacher.items() if key.endswith(f"/{TEACHER_STEPS}")}
        ratios = [row.get(f"{name}/{calls}", math.inf) / value for name, value in of.items()]
        found.append(math.exp(fmean(math.log(ratio) for ratio in ratios)) if ratios else math.inf)
    return found


def ranking(results: list[dict[str, Any]], calls: int = 1) -> list[str]:
    """Methods, the best on average over the sets first."""
    sets = list(dict.fromkeys(row["set"] for row in results))
    names = dict.fromkeys(row["method"] for row in results if row["method"] != "teacher")

    def average(method: str) -> float:
        found = [scores(results, data, method, calls) for data in sets]
        return fmean(fmean(map(math.log, each)) if each else math.inf for each in found)

    return sorted(names, key=average)


def interval(found: list[float]) -> str:
    """A score in words: the geometric mean of the seeds and the half width of its interval."""
    if not found or math.inf in found:
        return "—"
    logs = [math.log(value) for value in found]
    mean = math.exp(fmean(logs))
    if len(found) < 2:
        return f"{mean:.2f}"
    half = STUDENT_T[len(found)] * stdev(logs) / math.sqrt(len(found))
    return f"{mean:.2f} ± {mean * math.sinh(half):.2f}"


def tables(results: list[dict[str, Any]]) -> str:
    """The scores of all methods on all sets, and then the distances on each, as Markdown."""
    sets = list(dict.fromkeys(row["set"] for row in results))
    heads = [f"{data}, {calls}" for data in sets for calls in CALLS]
    lines = [f"| method | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for method in ranking(results):
        cells = [interval(scores(results, data, method, calls)) for data in sets for calls in CALLS]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    for data in sets:
        rows = [row for row in results if row["set"] == data and row["seed"] == 0]
        names = list(dict.fromkeys(key.rpartition("/")[0] for row in rows for key in row if "/" in key))
        calls = ", ".join(map(str, CALLS))
        lines += ["", f"| {data} | images | {' | '.join(f'{name}: {calls}' for name in names)} |"]
        lines.append(f"|---|---:|{'---:|' * len(names)}")
        for row in rows:
            if "failed" in row:
                lines.append(f"| `{row['method']}` | failed: {row['failed']} |")
                continue
            steps = (TEACHER_STEPS,) if row["method"] == "teacher" else CALLS
            cells = [", ".join(f"{row[f'{name}/{each}']:.3g}" for each in steps) for name in names]
            lines.append(f"| `{row['method']}` | {row['images']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, add each run to the file as soon as it is done, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[*GUIDANCE, []], help="none for the tables alone")
    parser.add_argument("--methods", nargs="+", help="all without")
    parser.add_argument("--seconds", nargs="+", type=float, help="processor seconds of a run, for each set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--leading", type=int, help="only so many methods, those that are best in one step so far")
    parser.add_argument(
        "--json", nargs="+", type=Path, default=[Path("method_sets.json")], help="results; runs are added to the first"
    )
    parser.add_argument("--models", type=Path, help="keep each model in this folder, for finishes.py")
    parser.add_argument("--single", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.budget = dict(zip(args.sets, args.seconds or [SECONDS[data] for data in args.sets], strict=True))
    if args.single:
        found = run(args.sets[0], args.single, args.seeds[0], args.budget[args.sets[0]], args.models)
        return args.json[0].write_text(json.dumps(found)) and None
    files: list[list[dict[str, Any]]] = [json.loads(path.read_text()) if path.exists() else [] for path in args.json]
    ours, known = files[0], list(chain.from_iterable(files))
    names = args.methods or [name for name in methods() if name not in NOT_FROM_A_TEACHER]
    names = ranking(known)[: args.leading] if args.leading else names
    for data in args.sets:
        for seed in args.seeds:
            for method in ([] if args.leading else ["teacher"]) + names:
                if any((row["set"], row["method"], row["seed"]) == (data, method, seed) for row in known):
                    continue  # also one that failed: take it out of the file to try again
                found = complete(data, method, seed, args)
                ours.append(found)
                known.append(found)
                args.json[0].write_text(json.dumps(ours, indent=1) + "\n")
                print(found, flush=True)
    print(tables(known))


if __name__ == "__main__":
    main()
