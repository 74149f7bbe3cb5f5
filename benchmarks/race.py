"""One training run against a budget of seconds, measured along the way; what the comparisons share."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from unistep.core.flowmap import Map
from unistep.data import Dataset, Loader, prepare
from unistep.evaluation import quick_fd
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.hub.load import load
from unistep.hub.save import save
from unistep.objectives.base import Objective
from unistep.training.build import build_objective, build_student, fit_model_to_data, place
from unistep.training.ema import EMA
from unistep.training.examples import Examples
from unistep.training.loop_options import LoopOptions
from unistep.training.optim import RunOptimizer, build_optimizer, set_rates
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig
from unistep.training.step import TrainStep


def count_passes(objective: nn.Module) -> Counter[str]:
    """Count the examples that go through each network of an objective, with and without gradient."""
    counts: Counter[str] = Counter()

    def seen(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        del module
        counts["with gradient" if torch.is_grad_enabled() else "without"] += len(inputs[0])

    for module in objective.modules():
        net = getattr(module, "net", None)
        if isinstance(net, nn.Module):
            net.register_forward_pre_hook(seen)
    return counts


def fitted(config: RunConfig, dataset: Dataset, teacher: Generator | None) -> ModelConfig:
    """The model of a run, with the size of the teacher's network and the teacher's conditions."""
    if teacher is None:
        return fit_model_to_data(config.model, dataset)
    ours = config.model.network
    network = replace(
        teacher.config.network,
        **{name: getattr(ours, name) for name in ("dropout", "second_time", "double_norm") if hasattr(ours, name)},
    )
    return replace(config.model, network=network, fields=teacher.config.fields)


def measure(generator: Generator, num: int, calls: Sequence[int]) -> dict[str, float]:
    """Fréchet distances by number of steps; a denoiser is sampled in 10 of DPM-Solver++(2M)."""
    plan = [(10, "dpmpp2m")] if generator.kind == "denoiser" else [(steps, None) for steps in calls]
    together = 64 if generator.device.type == "cpu" else 500
    found: dict[str, float] = {}
    for steps, solver in plan:
        samples = generator.sample(num, steps=steps, solver=solver, batch_size=together)  # type: ignore[arg-type]
        found[f"fd_{steps}"] = round(quick_fd(samples, device=generator.device), 3)
    return found


def clock(device: torch.device) -> float:
    """Seconds of this process on a processor, so that other work does not count; on a GPU those of the clock."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def shares(points: int) -> tuple[float, ...]:
    """Evenly spaced shares of a budget at which to measure, the last of them all of it."""
    return tuple((i + 1) / points for i in range(points))


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of."""

    model: ModelConfig
    student: Map
    objective: Objective
    train_step: TrainStep
    optimizer: RunOptimizer


def assemble(config: RunConfig, dataset: Dataset, source: Generator | None, world: World) -> Parts:
    """The parts of a run from the weights of a model, where its configuration names a teacher."""
    start = source if config.teacher is not None else None
    model = fitted(config, dataset, source)
    student = build_student(config, model, start)
    asked = start if start is not None and isinstance(start.map, config.objective.teacher_kind) else None
    objective = build_objective(config, student, asked)
    place(objective, replace(config, model=model), world)
    loader, options = Loader(dataset, config.batch_size, config.seed), LoopOptions.of(config)
    examples = Examples(model.modality, model.build_codec(), model.context, model.sigma_data)
    train_step = TrainStep(objective, loader, examples, options, world)
    optimizer = build_optimizer(config.optimizer, student.net, objective, train_step.precision)
    objective.train()
    return Parts(model=model, student=student, objective=objective, train_step=train_step, optimizer=optimizer)


def count_steps(parts: Parts, seconds: float, device: torch.device) -> int:
    """How many steps there will be within a budget, by the second of two, after which the parts are of no more use."""
    set_rates(parts.optimizer, 0.0)
    for _ in range(2):
        begin = clock(device)
        parts.train_step.gradient(0, 0.0)
        parts.optimizer.step()
        spent = clock(device) - begin
    return max(1, int(seconds / spent))


def race(
    name: str,
    config: RunConfig,
    *,
    teacher: str | None,
    seconds: float,
    num: int,
    points: Sequence[float] = (0.5, 1.0),
    calls: Sequence[int] = (1, 2),
    images: int | None = None,
    device: str = "cpu",
    turn: AbstractContextManager[object] | None = None,
    keep: Path | None = None,
    measured: Callable[[Generator], dict[str, float]] | None = None,
    suited: bool = False,
) -> dict[str, object]:
    """Train for ``seconds`` of processor time, or of a GPU's.

    Args:
        name: What to call the run.
        config: The run; whether it starts from a teacher and follows one is in ``config.teacher``.
        teacher: The teacher to use wherever the configuration names one; also gives the size of every network.
        seconds: Budget; evaluation is not counted.
        num: Samples for each distance.
        points: Shares of the budget at which to measure.
        calls: Numbers of steps to measure one-step models at.
        images: Budget in place of the seconds, which are counted all the same.
        device: Where the networks are.
        turn: Held from the first step to the last judgement.
        keep: Folder for the model as it is at the end.
        measured: What to measure of a model in place of the Fréchet distances on Fashion-MNIST.
        suited: Whether curriculum and rates suit the number of steps that there will be, as ``unistep train`` has it.

    Returns:
        Speed, network passes for each image, and the distances along the way.
    """
    source = load(teacher) if teacher is not None else None
    config = replace(config, teacher=teacher if config.teacher is not None else None)
    dataset, world = prepare(config.data, progress=False), World(device=torch.device(device))
    share = 0.0
    if suited:
        steps = count_steps(assemble(config, dataset, source, world), seconds, world.device)
        config, share = replace(config, objective=config.objective.suited_to(steps)[0]), 1 / steps
    parts = assemble(config, dataset, source, world)
    model, student, objective, train_step = parts.model, parts.student, parts.objective, parts.train_step
    optimizer = parts.optimizer
    passes = count_passes(objective)
    emas = [EMA(ema, student.net.parameters()) for ema in config.emas]
    curve: list[dict[str, object]] = []
    step, spent, bad = 0, 0.0, 0
    if world.device.type != "cpu":  # its kernels are loaded when they are first used
        train_step.gradient(0, 0.0)
        passes.clear()
    with turn or nullcontext():
        for point in points:
            while (progress := step * config.batch_size / images if images else spent / seconds) < point:
                begin = clock(world.device)
                gradient = train_step.gradient(step, progress)
                set_rates(optimizer, config.schedule.factor(step, progress, share))
                if gradient.norm < float("inf"):
                    optimizer.step()
                    objective.after_step(progress)
                else:
                    bad += 1
                step += 1
                for ema in emas:
                    ema.update(step, config.batch_size)
                spent += clock(world.device) - begin
            counted = dict(passes)
            for ema in emas:
                ema.swap()
                row = {"seconds": round(spent), "images": step * config.batch_size, "weights": ema.config.name}
                generator = Generator(student, model).to(world.device, train_step.precision)
                row |= measure(generator, num, calls) if measured is None else measured(generator)
                if keep and point == points[-1]:
                    save(model, generator.map.net.state_dict(), keep, "A model of a comparison.")
                ema.swap()
                curve.append(row)
                print(name, row, flush=True)
            passes.clear()
            passes.update(counted)
            objective.train()
    images = step * config.batch_size
    return {
        "variant": name,
        "images_per_second": round(images / spent, 1),
        "passes_per_image": {kind: round(count / images, 2) for kind, count in passes.items()},
        "skipped": bad,
        "curve": curve,
    }
