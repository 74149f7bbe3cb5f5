r"""How well a model edits in 1, 2, 4 and 8 calls, beside its teacher in 20 and 100 and beside no model at all.

    python benchmarks/editing.py fashion --json FILE
    python benchmarks/editing.py fashion --tune
    python benchmarks/editing.py notes --student --named
    python benchmarks/editing.py fashion --teacher --mixture --precision fp32
    python benchmarks/editing.py racing --with-teacher runs/racing-teacher --precision fp32

Clean held-out items are degraded and restored without their labels or texts, with ``--named`` with all that the data
says of them. PSNR and SSIM are means over them; the
feature distance is :math:`E\|\varphi(\hat x) - \varphi(x)\| / E\|\varphi(x) - \varphi(x')\|` on a network that nothing
was selected by; consistency is the largest :math:`|A\hat x - y|`; seconds are those of the processor, for each item.

Models of streams restore frame after frame, and so do DDRM and DPS with their teacher, which is named by
``--with-teacher`` where none ships (``unistep train racing/denoising`` makes it).

With ``--teacher`` the teacher is measured by itself, with ``--student`` the student. ``--mixture`` adds the solver of
that name, whose mixture is that of the student's samples.

``--tune`` searches the parameters of a solver first, on other items, and prints them; without, those of the model's
configuration are used. Free parameters of the baselines are chosen on the same other items.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from restoration_baselines import bicubic, ddrm, dps, membrane, straight_line
from torch import Tensor

import unistep
from unistep.core.condition import Condition, frame, parse_condition, select
from unistep.data import Dataset, data_config, prepare
from unistep.editing.operators import Everything
from unistep.editing.solvers import Solver
from unistep.editing.task import EditOptions, Restoration
from unistep.evaluation import load_features
from unistep.evaluation.hardware import hardware
from unistep.evaluation.picture_metrics import psnr, ssim
from unistep.evaluation.reference import extract
from unistep.files import write_text
from unistep.generation.editing import make_task, settings_key
from unistep.generation.mixtures import mixture_of, with_mixture
from unistep.generation.requests import with_frames
from unistep.generation.tuning import tune_editing
from unistep.precision import autocast
from unistep.serialization import to_plain

STEPS = (1, 2, 4, 8)
SEED = 20_000


@dataclass(frozen=True)
class Case:
    """One task, and what it is done without a model."""

    task: str
    options: dict[str, Any]
    plain_name: str
    plain: Callable[[Any, Tensor, Tensor], Tensor]
    """``plain(task, y, x) -> restored``; of ``x`` only the shape is used."""

    @property
    def name(self) -> str:
        return " ".join([self.task, *(f"{value}" for value in self.options.values())])


@dataclass(frozen=True)
class Subject:
    """A model, its teacher, and held-out data."""

    data: str
    features: str
    cases: tuple[Case, ...]
    num: int
    few: int
    """Items that DPS is measured on."""
    tuning: int = 32
    guided: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Step sizes that are tried for DPS."""
    options: dict[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    """Conditions that the model is given from the data, such as what a player did."""
    streams: bool = False
    """Whether clips have another length than the model's."""
    teacher: str | None = None
    """Its teacher, where it is not the shipped one."""


def of_mask(task: Any, y: Tensor, x: Tensor) -> Tensor:
    return membrane(y, task.operator(len(y)).known.expand_as(x))


def as_it_is(task: Any, y: Tensor, x: Tensor) -> Tensor:
    del task, x
    return y


def enlarged(task: Any, y: Tensor, x: Tensor) -> Tensor:
    del task
    size = (x.shape[-2], x.shape[-1])
    if y.ndim == 4:
        return bicubic(y, size)
    frames = bicubic(as_pictures(y), size)
    return frames.unflatten(0, (len(y), -1)).transpose(1, 2)


def undone(task: Any, y: Tensor, x: Tensor) -> Tensor:
    del x
    return task.operator(len(y)).A_dagger(y).clamp(-1, 1)


def bridged(task: Any, y: Tensor, x: Tensor) -> Tensor:
    del x
    return straight_line(y, task.operator(len(y)).known)


INPAINT = Case("inpaint", {"mask": "center"}, "smooth fill", of_mask)
UPSCALE = Case("upscale", {"factor": 4.0}, "bicubic", enlarged)
DEBLUR = Case("deblur", {"kernel": "gaussian:1.5"}, "pseudo-inverse", undone)
DENOISE = Case("denoise", {"sigma": 0.5}, "noisy input", as_it_is)
COLORIZE = Case("colorize", {}, "grey", as_it_is)


def still(task: Any, y: Tensor, x: Tensor) -> Tensor:
    """Each frame that is missing is the last one before it that is known."""
    restored, known = y.clone(), task.operator(len(y)).known.expand_as(x)[0, 0, :, 0, 0]
    for number in range(1, x.shape[2]):
        if not known[number]:
            restored[:, :, number] = restored[:, :, number - 1]
    return restored


GAP = Case("inpaint", {"mask": "0.2s:0.3s"}, "straight line", bridged)
EXTEND = Case("extend", {"cutoff": 1_000.0}, "low frequencies", as_it_is)
NOISE = Case("denoise", {"sigma": 0.05}, "noisy input", as_it_is)

FILL = Case("inpaint", {"mask": "6:10"}, "last frame again", still)
PREDICT = Case("predict", {"known": 4}, "last frame again", still)

SUBJECTS = {
    "fashion": Subject("fashion-mnist:test", "fashion-vicreg", (INPAINT, UPSCALE, DEBLUR, DENOISE), 96, 24),
    "emoji": Subject("emoji:test", "emoji-vicreg", (COLORIZE, UPSCALE, INPAINT, DENOISE), 24, 4, 24, (0.5, 2.0)),
    "notes": Subject("notes:test", "notes-vicreg", (GAP, EXTEND, NOISE), 24, 12, 12, (10.0, 30.0, 60.0)),
    "moving-fashion": Subject("moving-fashion:test", "moving-fashion-vicreg", (FILL, PREDICT, UPSCALE), 12, 6, 8),
    "racing": Subject(
        "racing:test", "random-convolutions", (COLORIZE, FILL, PREDICT), 6, 3, 4, given=("action",), streams=True
    ),
}


def prepared(subject: Subject) -> Dataset:
    return prepare(data_config(subject.data), progress=False)


def items(subject: Subject) -> tuple[Tensor, Tensor, Any, dict[str, Any], dict[str, Any]]:
    """Those that parameters are chosen on, others to report on, what they are, and what both are given."""
    data = prepared(subject)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = rows[: subject.tuning + subject.num]
    stored, condition = data.batch(chosen, None)
    x = data.modality.to_signal(stored)
    first, rest = slice(subject.tuning), slice(subject.tuning, None)
    given, given_rest = ({name: condition[name].select(rows) for name in subject.given} for rows in (first, rest))
    return x[first], x[rest], data.modality, given, given_rest


def denoiser_of(teacher: unistep.Generator, seen: Condition | None = None) -> Callable[[Tensor, float], Tensor]:
    """The teacher as a function of signals and a noise level, in what it sees, under a condition."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        with autocast(teacher.precision, teacher.device):
            return teacher.map(x, torch.full((len(x),), sigma), None, seen).float()

    return denoise


def frame_by_frame(
    teacher: unistep.Generator, case: Case, y: Tensor, given: dict[str, Any], method: Any, steps: int, **free: float
) -> Tensor:
    """Clips restored by a method of whole signals, frame after frame, each given those before it as they came out."""
    count, frames = len(y), y.shape[2]
    one = (*teacher.signal_shape[:1], 1, *teacher.signal_shape[2:])
    task = make_task(teacher, case.task, EditOptions(**case.options), shape=one)
    assert isinstance(task, Restoration)
    operator, session = _OfFrame(task.operator(count), teacher.codec), teacher.session(steps=steps)
    condition = with_frames(parse_condition(teacher.config.fields, given, count, None), teacher, frames)
    generator = torch.Generator().manual_seed(SEED)
    state, restored = session.start(range(SEED, SEED + count)), []
    for number in range(frames):
        measured = task.measured(y[:, :, number, None])

        def draw(noise: Tensor, seen: Condition, items: Any, measured: Tensor = measured) -> Tensor:
            del items
            # A session's step is in inference mode, where there are no gradients.
            with torch.inference_mode(False), torch.set_grad_enabled(method is dps):
                shown = select(seen, torch.arange(count))
                return method(denoiser_of(teacher, shown), operator, measured, noise.clone(), steps, generator, **free)

        state, signal = replace(session, draw=draw).step(state, frame(condition, number))
        restored.append(signal)
    return torch.cat(restored, dim=2)


class Measured:
    """Rows of one case."""

    def __init__(self, subject: Subject, modality: Any, x: Tensor) -> None:
        self.network = load_features(subject.features, modality)
        self.x = x
        self.pictures = len(modality.layout.space) == 2
        (self.seen,) = extract(self.network, [x])
        self.spread = (self.seen - self.seen.roll(1, dims=0)).norm(dim=1).mean()

    def row(self, name: str, calls: int, restored: Tensor, task: Any, y: Tensor, seconds: float) -> dict[str, Any]:
        count = len(restored)
        x = self.x[:count]
        (found,) = extract(self.network, [restored])
        found_distance = float((found - self.seen[:count]).norm(dim=1).mean() / self.spread)
        consistency = None
        if isinstance(task, Restoration):
            consistency = float((task.operator(count).A(restored) - task.measured(y[:count])).abs().max())
        return {
            "name": name, "calls": calls, "num": count, "psnr": float(psnr(restored, x).mean()),
            "ssim": float(ssim(as_pictures(restored), as_pictures(x)).mean()) if self.pictures else None,
            "feature_distance": found_distance, "consistency": consistency, "seconds": seconds / count,
        }  # fmt: skip


def as_pictures(x: Tensor) -> Tensor:
    """Pictures as they are, and clips as all of their frames."""
    return x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


def best_of(values: Sequence[float], run: Callable[[float], Tensor], x: Tensor) -> float:
    """The value whose results have the highest PSNR."""
    scores = {value: float(psnr(run(value), x).mean()) for value in values}
    return max(scores, key=lambda value: scores[value])


def measure(
    name: str,
    subject: Subject,
    case: Case,
    guidance: bool,
    teacher_alone: bool,
    only: bool,
    mixtures: bool,
    precision: str,
) -> list[dict[str, Any]]:
    """All rows of one case, or those of the teacher with the solvers of editing."""
    known, x, modality, given_few, given = items(subject)
    student = unistep.load(name, precision=precision)
    task = make_task(student, case.task, EditOptions(**case.options), shape=x.shape[1:] if subject.streams else None)
    seeds = [SEED + i for i in range(len(x))]
    y = task.noisy(task.degraded(x), seeds)
    few = known[:8]
    y_few = task.noisy(task.degraded(few), [SEED - 1 - i for i in range(len(few))])
    table, rows = Measured(subject, modality, x), []

    def add(label: str, calls: int, work: Callable[[], Tensor]) -> None:
        restored, seconds = timed(work)
        rows.append(table.row(label, calls, restored, task, y, seconds))
        print(json.dumps({"model": name, "task": case.name, **rows[-1]}), flush=True)

    def with_mixtures(model: unistep.Generator, label: str) -> None:
        if not mixtures or not isinstance(task, Restoration):
            return
        prior = mixture_of(student)
        first = with_mixture(model, task.problem(y), prior)
        add("mixture alone", 0, lambda: first.constraint.satisfied(first.beginning, model.codec.within_range))
        for steps in (1, 4, 8):
            add(
                label, steps,
                lambda n=steps: model.edit(task, y, steps=n, seed=SEED, solver="mixture", prior=prior, **given),
            )  # fmt: skip

    teacher = student if only else unistep.load(subject.teacher or f"{name}-teacher", precision=precision)
    if teacher_alone:
        for steps in (1, 4, 8, 20):
            add("teacher, back-projection", steps, lambda n=steps: teacher.edit(task, y, steps=n, seed=SEED, **given))
        with_mixtures(teacher, "teacher, mixture")
        return rows
    add(case.plain_name, 0, lambda: case.plain(task, y, x))
    for solver in ("replacement", "back-projection"):
        for steps in STEPS:
            add(solver, steps, lambda s=solver, n=steps: student.edit(task, y, steps=n, solver=s, seed=SEED, **given))
    if only:
        with_mixtures(student, "mixture")
        return rows
    codec, denoise = teacher.codec, denoiser_of(teacher)
    restores = isinstance(task, Restoration)

    def through(method: Any, seen: Tensor, steps: int, **free: float) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn((len(seen), *teacher.shape), generator=generator)
        operator = _InCode(task.operator(len(seen)) if restores else Everything(), codec)
        measured = task.measured(seen) if restores else seen
        if not restores:
            free["sigma_y"] = case.options["sigma"] * operator.scale
        return codec.decode(method(denoise, operator, measured, noise, steps, generator, **free))

    if subject.streams:
        stream_baselines(teacher, subject, case, (y_few, given_few, few), (y, given), guidance, add)
        return rows
    direct = modality.shape == teacher.shape
    if not restores:
        add("teacher, one call", 1, lambda: teacher.edit(task, y, steps=1, seed=SEED))
        for steps in (20, 100):
            add("teacher, same solver", steps, lambda n=steps: teacher.edit(task, y, steps=n, seed=SEED))
    if direct:
        with torch.no_grad():
            eta = best_of((0.5, 0.85, 1.0), lambda v: through(ddrm, y_few, 20, eta=v), few)
            for steps in (20, 100):
                part = y if steps == 20 else y[: 2 * subject.few]
                add(f"DDRM, eta {eta:g}", steps, lambda n=steps, p=part: through(ddrm, p, n, eta=eta))
    elif restores:
        add("teacher, replacement", 20, lambda: teacher.edit(task, y, steps=20, solver="replacement", seed=SEED))
        add("teacher, replacement", 100, lambda: teacher.edit(task, y, steps=100, solver="replacement", seed=SEED))
    if guidance and (restores or not direct):

        def guided(seen: Tensor, steps: int, size: float) -> Tensor:
            if direct:
                return through(dps, seen, steps, step_size=size)
            generator = torch.Generator().manual_seed(SEED)
            noise = torch.randn((len(seen), *teacher.shape), generator=generator)
            operator = _Decoded(task.operator(len(seen)) if restores else Everything(), codec)
            measured = task.measured(seen) if restores else seen
            free = {"step_size": size, "limit": math.inf}
            return codec.decode(dps(denoise, operator, measured, noise, steps, generator, **free))

        size = best_of(subject.guided, lambda v: guided(y_few[:4], 100, v), few[:4])
        add(f"DPS, step {size:g}", 100, lambda: guided(y[: subject.few], 100, size))
    return rows


def stream_baselines(
    teacher: unistep.Generator,
    subject: Subject,
    case: Case,
    known: tuple[Tensor, dict[str, Any], Tensor],
    reported: tuple[Tensor, dict[str, Any]],
    guidance: bool,
    add: Callable[[str, int, Callable[[], Tensor]], None],
) -> None:
    """Rows of what others do with the teacher of a stream, frame after frame.

    Args:
        teacher: The denoiser of the next frame.
        subject: How many clips.
        case: The task. Where whole frames are missing there is nothing that one could be corrected by: by any method
            they are sampled, and the rest is kept.
        known: Degraded clips that free parameters are chosen on, what is given of them, and the clips.
        reported: Degraded clips to report on, and what is given of them.
        guidance: Whether DPS is measured.
        add: Takes a row's name, the calls for a frame, and the work.
    """
    y, given = reported
    if case.plain is still:
        options = {**case.options, **given}
        for steps in (4, 20, 100):
            work = partial(teacher.edit, case.task, y, steps=steps, seed=SEED, **options)
            add("teacher, sampling", steps, work)
        return
    y_few, given_few, few = known

    def framed(method: Any, steps: int, count: int, of_known: bool = False, **free: float) -> Tensor:
        seen, shown = (y_few, given_few) if of_known else (y, given)
        some = {field: value.select(slice(count)) for field, value in shown.items()}
        return frame_by_frame(teacher, case, seen[:count], some, method, steps, **free)

    with torch.no_grad():
        eta = best_of((0.5, 0.85, 1.0), lambda v: framed(ddrm, 20, 2, of_known=True, eta=v), few[:2])
        add(f"DDRM, eta {eta:g}", 20, lambda: framed(ddrm, 20, len(y), eta=eta))
        add(f"DDRM, eta {eta:g}", 100, lambda: framed(ddrm, 100, subject.few, eta=eta))
    if guidance:
        size = best_of(subject.guided, lambda v: framed(dps, 100, 1, of_known=True, step_size=v), few[:1])
        add(f"DPS, step {size:g}", 100, lambda: framed(dps, 100, subject.few, step_size=size))


class _InCode:
    """An operator of signals as one of what the network sees, where that is a multiple of them."""

    def __init__(self, operator: Any, codec: Any) -> None:
        self._operator = operator
        self.scale = float(codec.encode(torch.ones(1, *codec.signal_shape)).mean())

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self._operator.A(x / self.scale)

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        return self._operator.A_dagger(y) * self.scale


class _OfFrame:
    """An operator of clips of one frame as one of what the network of a stream sees."""

    def __init__(self, operator: Any, codec: Any) -> None:
        self._operator, self._scale = operator, codec.config.scale

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self._operator.A((x / self._scale)[:, :, None])

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        return self._operator.A_dagger(y)[:, :, 0] * self._scale


class _Decoded:
    """What is measured of a signal, as a function of what the network sees, whatever its codec."""

    def __init__(self, operator: Any, codec: Any) -> None:
        self._operator, self._codec = operator, codec

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        return self._operator.A(self._codec.decode(x))


def tune(
    name: str,
    subject: Subject,
    cases: Sequence[Case],
    steps: Sequence[int],
    rounds: int,
    precision: str,
    solver: Solver,
    prior: str,
) -> None:
    """Print the best parameters of a model."""
    known, *_ = items(subject)
    student = unistep.load(name, precision=precision)
    given: dict[str, Any] = {"solver": solver, "rounds": rounds}
    if solver == "mixture":
        given["prior"] = mixture_of(unistep.load(prior, precision=precision))
    for case in cases:
        work = make_task(student, case.task, EditOptions(**case.options))
        if solver == "mixture" and not isinstance(work, Restoration):
            continue
        for count in steps:
            best, decibels = tune_editing(student, case.task, known, steps=count, **given, **case.options)
            key = f"{settings_key(work.key, solver)}/{count}"
            print(json.dumps({"key": key, "settings": to_plain(best), "psnr": round(decibels, 2)}), flush=True)


def main() -> None:
    """Tune, or measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=list(SUBJECTS))
    parser.add_argument("--tasks", nargs="*", help="all of the model's without")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 2, 8, 1], help="numbers of calls to tune")
    parser.add_argument("--solver", default="back-projection", choices=("back-projection", "mixture"), help="to tune")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--items", type=int, help="number of items to report on, fewer than usual")
    parser.add_argument("--tuning", type=int, help="number of items to tune on, fewer than usual")
    parser.add_argument("--teacher", action="store_true", help="tune, or measure, the solvers with the teacher alone")
    parser.add_argument("--student", action="store_true", help="measure neither DDRM nor DPS")
    parser.add_argument("--mixture", action="store_true", help="with --teacher or --student: the solver mixture, too")
    parser.add_argument("--named", action="store_true", help="give the model the conditions of the data")
    parser.add_argument("--no-dps", action="store_true")
    parser.add_argument("--with-teacher", metavar="MODEL", help="a teacher of the model, such as one for racing")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"), help="bf16 needs units for it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name in args.models:
        subject = SUBJECTS[name]
        fewer = {"num": args.items, "few": args.items, "tuning": args.tuning}
        subject = replace(subject, **{what: min(n, getattr(subject, what)) for what, n in fewer.items() if n})
        subject = replace(subject, teacher=args.with_teacher)
        if args.named:
            subject = replace(
                subject, given=tuple(unistep.load(name).config.fields.keys() & prepared(subject).fields.keys())
            )
        cases = [case for case in subject.cases if not args.tasks or case.task in args.tasks]
        if args.tune:
            tuned = (subject.teacher or f"{name}-teacher") if args.teacher else name
            tune(tuned, subject, cases, args.steps, args.rounds, args.precision, args.solver, name)
            continue
        for case in cases:
            only = args.teacher, args.student, args.mixture
            rows = measure(name, subject, case, not args.no_dps, *only, args.precision)
            found.append({"model": name, "data": subject.data, "task": case.name, "rows": rows})
            if args.json:
                about = {
                    "hardware": hardware("cpu"),
                    "precision": args.precision,
                    "pytorch": torch.__version__,
                    "seed": SEED,
                }
                write_text(args.json, json.dumps({**about, "features": "see the script", "cases": found}, indent=1))


if __name__ == "__main__":
    main()
