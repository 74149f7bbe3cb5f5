"""Every method of the family at equal compute: same network, data, seed and processor seconds.

    python benchmarks/methods.py --teacher DIR --seconds 120 --num 1000 --json methods.json --plot methods.png
    python benchmarks/methods.py fashion/ect fashion/sct --teacher DIR --seconds 300
    python benchmarks/methods.py fashion/ect fashion/cd/guided --teacher DIR  # guidance of 1.2 in both
    python benchmarks/methods.py --device cuda --batch-size 256 --images 400000 --jobs 4
    python benchmarks/methods.py --device cuda --batch-size 256 --time-alone --jobs 4

Methods are the recipes ``fashion/METHOD``. Each runs from the weights of a teacher, with its own optimizer where its
recipe starts so too and else with that of the recipes for tuning. Where it does not need a teacher, it also runs from
fresh weights (``NAME/scratch``). Where its target can be guided, it also runs with the guidance of ``fashion/ect``
(``NAME/guided``), and that without (``fashion/ect/unguided``). Truncated training goes on from a one-step model: half
of its budget, counted with the rest, is spent on ``fashion/ect/unguided``.

Every run is a process of its own with one thread. Processor seconds are used rather than the clock's, so that other
work on the machine does not decide the ranking; network passes are counted beside them. On a GPU it is the clock's, and
runs that are prepared side by side (``--jobs``) take turns, unless the budget is in ``--images``. Peak memory for each
image is the slope between two batch sizes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from curves import plot
from filelock import FileLock
from race import measure, race, shares

from unistep.hub.load import load
from unistep.objectives.base import ObjectiveConfig
from unistep.objectives.guidance import GuidedTeacherConfig
from unistep.objectives.imf import IMFConfig
from unistep.objectives.meanflow import FromDataConfig, TargetGuidance
from unistep.objectives.shortcut import ShortcutConfig
from unistep.objectives.tcm import TCMConfig
from unistep.recipes import reproductions
from unistep.recipes.method import TUNING_OPTIMIZER, TUNING_SCHEDULE
from unistep.training.run_config import RunConfig

WEIGHT = 1.2
"""Guidance of the runs that are guided."""
DROPOUT = 0.1
"""Share of examples without their label, where a student's own answer without it is asked for."""
FIRST_STAGE = "fashion/ect/unguided"
"""What truncated training goes on from."""
ONE_STEP = "fashion"
"""What its memory is measured with."""
SMALL = 128
"""The smaller of the two batches, of one to three, between which the slope of the memory is taken, at least: less than
that is hidden by what loading has taken before."""


def methods() -> dict[str, RunConfig]:
    """Every run that can be compared, by name."""
    found: dict[str, RunConfig] = {}
    for name, config in reproductions().items():
        if config.model.kind == "denoiser" or not name.startswith("fashion/"):
            continue
        config = replace(config, model=replace(config.model, times={}))
        if config.teacher is None:
            found[f"{name}/scratch"] = config
            config = replace(config, optimizer=TUNING_OPTIMIZER, schedule=TUNING_SCHEDULE)
        found[name] = config = replace(config, teacher="teacher")
        for other, objective in guided(config.objective).items():
            found[f"{name}/{other}"] = replace(config, objective=objective)
    return found


def guided(objective: ObjectiveConfig) -> dict[str, ObjectiveConfig]:
    """An objective with guidance where it has none, and without where it has some; none if it cannot be guided."""
    if isinstance(objective, GuidedTeacherConfig):
        if objective.guidance != 1:
            return {"unguided": replace(objective, guidance=1.0)}
        return {} if getattr(objective, "target", None) == "data" else {"guided": replace(objective, guidance=WEIGHT)}
    if isinstance(objective, FromDataConfig):
        improved = isinstance(objective, IMFConfig)  # its paper reaches the same weight by kappa
        guidance = TargetGuidance(kappa=1 - 1 / WEIGHT) if improved else TargetGuidance(omega=WEIGHT)
        return {"guided": replace(objective, guidance=guidance, label_dropout=DROPOUT)}
    if isinstance(objective, ShortcutConfig):
        return {"guided": replace(objective, guidance=WEIGHT, label_dropout=DROPOUT)}
    return {}


def peak(name: str, args: argparse.Namespace, batch: int) -> int:
    """Most memory, in bytes, that a few steps of a method take in a fresh process."""
    words = [sys.executable, __file__, name, "--teacher", args.teacher, "--memory", str(batch)]
    words += ["--device", args.device, "--json", str(args.json)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])


def one(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Run one method in this process."""
    torch.set_num_threads(1)
    config = methods()[name]
    if isinstance(config.objective, TCMConfig):
        return two_stages(name, args)
    return race(
        name,
        replace(config, batch_size=args.batch_size or config.batch_size),
        points=shares(args.points),
        calls=(1, 2, 4),
        **common(args),
    )


def common(args: argparse.Namespace) -> dict[str, Any]:
    """What all runs of a comparison have in common."""
    words = {name: getattr(args, name) for name in ("teacher", "seconds", "num", "images", "device")}
    return words | {"turn": None if args.images else turn(args)}


def two_stages(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Run a method that goes on from a one-step model, half of the budget on that one's training."""
    first, config = methods()[FIRST_STAGE], methods()[name]
    half = common(args) | {"seconds": args.seconds / 2, "images": args.images and args.images // 2}
    size = {"batch_size": args.batch_size or config.batch_size}
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        stage = race(FIRST_STAGE, replace(first, **size), points=(1.0,), calls=(1, 2, 4), keep=model, **half)
        half["teacher"] = str(model)
        points = shares(max(1, args.points // 2))
        result: dict[str, Any] = race(name, replace(config, **size), points=points, calls=(1, 2, 4), **half)
    spent: dict[str, Any] = stage["curve"][-1]  # type: ignore[index]
    later = [row | {key: row[key] + spent[key] for key in ("seconds", "images")} for row in result["curve"]]
    return result | {"curve": [spent, *later]}


def turn(args: argparse.Namespace) -> FileLock | None:
    """Whose turn it is on the GPU, among the runs whose results go to one folder."""
    return FileLock(args.json.parent / "methods.lock") if args.device != "cpu" else None


def few_steps(name: str, args: argparse.Namespace) -> None:
    """Take a second's worth of steps at a batch size and print the peak of memory."""
    torch.set_num_threads(1)
    config = replace(methods()[name], batch_size=args.memory)
    waits = {"device": args.device, "turn": turn(args)}
    teacher = ONE_STEP if isinstance(config.objective, TCMConfig) else args.teacher
    race(name, config, teacher=teacher, seconds=1.0, num=1, points=(1.0,), calls=(), **waits)
    on_cpu = args.device == "cpu"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if on_cpu else torch.cuda.max_memory_allocated())


def speed(name: str, args: argparse.Namespace) -> None:
    """Print the images per second of a method that has the device for itself."""
    config = replace(methods()[name], batch_size=args.batch_size or methods()[name].batch_size)
    waits = {"device": args.device, "turn": turn(args)}
    found = race(name, config, teacher=args.teacher, seconds=args.seconds, num=1, points=(1.0,), calls=(), **waits)
    print(found["images_per_second"])


def alone(result: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The result of a run beside others, with the seconds that its images take when it has the device for itself."""
    words = [sys.executable, __file__, str(result["variant"]), "--teacher", args.teacher, "--speed", "--seconds", "1"]
    words += ["--device", args.device, "--json", str(args.json), "--batch-size", str(args.batch_size or 0)]
    rate = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])
    curve = [row | {"seconds": round(row["images"] / rate, 2)} for row in result["curve"]]
    return result | {"images_per_second": rate, "curve": curve}


def complete(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Run one method in a process of its own, and measure its memory."""
    part = args.json.with_suffix(f".{name.replace('/', '-')}.part")
    words = [sys.executable, __file__, name, "--single", "--teacher", args.teacher, "--json", str(part)]
    words += ["--seconds", str(args.seconds), "--num", str(args.num), "--points", str(args.points)]
    words += ["--images", str(args.images)] if args.images else []
    words += ["--device", args.device, *(["--batch-size", str(args.batch_size)] if args.batch_size else [])]
    subprocess.run(words, check=True)
    result = json.loads(part.read_text())
    part.unlink()
    usual = args.batch_size or methods()[name].batch_size
    if args.images:
        return result
    batch = max(SMALL, usual)
    low, high = (peak(name, args, size) for size in (batch, 3 * batch))
    return result | {"memory_per_image": (high - low) / (2 * batch)}


def table(results: list[dict[str, object]]) -> str:
    """The results as Markdown, best one-step distance first."""
    lines = [
        "| method | images | images/s | passes | MiB/image | 1 step | 2 steps | 4 steps |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for result in sorted(results, key=lambda r: r["curve"][-1]["fd_1"]):  # type: ignore[index]
        memory = f"{result['memory_per_image'] / 2**20:.2f}" if "memory_per_image" in result else ""  # type: ignore[operator]
        last = result["curve"][-1]  # type: ignore[index]
        passes = " + ".join(f"{n:g} {kind}" for kind, n in result["passes_per_image"].items())  # type: ignore[union-attr]
        lines.append(
            f"| `{result['variant']}` | {last['images']:,} | {result['images_per_second']:g} | {passes} "
            f"| {memory} | {last['fd_1']} | {last['fd_2']} | {last['fd_4']} |"
        )
    return "\n".join(lines)


def gather(
    names: Sequence[str], results: list[dict[str, Any]], args: argparse.Namespace
) -> tuple[list[dict[str, Any]], int]:
    """Run methods, adding each to the results as soon as it is done; the results, and how many runs failed."""
    failed = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        running = {pool.submit(complete, name, args): name for name in names}
        for done in as_completed(running):
            if done.exception():
                failed += 1
                print(f"{running[done]}: {done.exception()}", file=sys.stderr, flush=True)
                continue
            results = [other for other in results if other["variant"] != running[done]] + [done.result()]
            args.json.write_text(json.dumps(results, indent=1) + "\n")
    return results, failed


def main() -> None:
    """Run the methods one after the other, and add them to the results."""
    known = methods()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", choices=[*known, []], help="all without")
    parser.add_argument("--teacher", default="fashion-teacher", help="model folder or zoo name")
    parser.add_argument("--seconds", type=float, default=120.0, help="processor seconds for each method")
    parser.add_argument(
        "--images",
        type=int,
        help="a budget in place of seconds, for runs side by side, of which --time-alone gives the seconds",
    )
    parser.add_argument(
        "--time-alone", action="store_true", help="only time the methods of --json, one after the other"
    )
    parser.add_argument("--num", type=int, default=1000, help="samples for each distance")
    parser.add_argument("--points", type=int, default=4, help="how often each method is measured along its budget")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, help="that of the recipes without")
    parser.add_argument("--jobs", type=int, default=1, help="runs that are prepared side by side; more than 1 on a GPU")
    parser.add_argument("--json", type=Path, default=Path("methods.json"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--speed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.jobs > 1 and args.device == "cpu":
        parser.error("--jobs above 1 needs a GPU, where runs can take turns")
    names = args.methods or list(known)
    if args.memory:
        return few_steps(names[0], args)
    if args.speed:
        return speed(names[0], args)
    if args.single:
        return args.json.write_text(json.dumps(one(names[0], args))) and None
    results, failed = json.loads(args.json.read_text()) if args.json.exists() else [], 0
    if args.time_alone:
        with ThreadPoolExecutor(args.jobs) as pool:
            results = list(pool.map(lambda result: alone(result, args), results))
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    elif not results:
        torch.set_num_threads(1)
        teacher = load(args.teacher, device=args.device, precision="auto")
        print("start:", measure(teacher, args.num, (1, 2, 4)), flush=True)
    if not args.time_alone:
        results, failed = gather(names, results, args)
    print(table(results))
    if args.plot:
        plot(results, args.plot)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
