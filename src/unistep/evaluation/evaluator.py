"""The whole evaluation: sample each model at each setting, and set its features against those of the real data."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import torch
from torch import Tensor

from unistep.core.condition import ConditionValue
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.hardware import hardware
from unistep.evaluation.metrics import Moments, frechet_distance, kernel_distance, neighbourhood
from unistep.evaluation.progress import display, line
from unistep.evaluation.reference import (
    Examples,
    ReferenceStatistics,
    extract,
    noun,
    quantise,
    reference_statistics,
    to_float,
)
from unistep.evaluation.report import REFERENCE, SANITY, Report, Row

if TYPE_CHECKING:
    from rich.console import Console

    from unistep.core.solvers import Solver
    from unistep.evaluation.note_metrics import NoteMetrics
    from unistep.evaluation.speech import Speech

_SMALLEST = 10
_log = logging.getLogger(__name__)

Value = ConditionValue | Sequence[ConditionValue] | None
"""A field of a condition: one value for all samples, or one for each."""


class Sampler(Protocol):
    """What an evaluation needs of a model; :class:`unistep.generation.generator.Generator` has it."""

    name: str

    @property
    def kind(self) -> str:
        """``consistency``, ``flow_map`` or ``denoiser``."""
        ...

    def sample(
        self,
        num: int = 1,
        *,
        steps: int | None = None,
        seed: int = 0,
        solver: Solver | None = None,
        guidance: float | None = None,
        batch_size: int = 64,
        **condition: Any,
    ) -> Tensor:
        """Samples, ``[num, c, h, w]`` or ``[num, c, n]``, in [-1, 1]; item ``i`` belongs to ``seed + i``."""
        ...

    @property
    def guidance(self) -> float | None:
        """Guidance weight of samples that are given none; ``None`` for a model that takes no guidance."""
        ...

    def network_calls(
        self, steps: int | None = None, solver: Solver | None = None, guidance: float | None = None
    ) -> int:
        """Network calls for each sample."""
        ...


class Listener(Protocol):
    """What hears the samples of one row, beside the feature network."""

    def update(self, sounds: Tensor, features: Tensor) -> None:
        """Take in the next samples, with their features."""
        ...

    def compute(self) -> dict[str, float]:
        """What was found, by its column's name."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to sample."""

    steps: int
    """Sampling steps."""
    solver: Solver | None = None
    """ODE solver, for denoisers."""
    guidance: float | None = None
    """Guidance weight, for denoisers and for models with one as a condition; the model's own default without."""


Sweep = Mapping[str, Sequence[Setting]]
"""Settings by kind of model."""

DEFAULT_SWEEP: Sweep = {
    "consistency": tuple(Setting(steps=n) for n in (1, 2, 4)),
    "flow_map": tuple(Setting(steps=n) for n in (1, 2, 4)),
    "denoiser": tuple(Setting(steps=n, solver=s) for s in ("heun", "dpmpp2m") for n in (5, 10, 18)),
}
"""A one-step model with one, two and four calls; a teacher with two solvers at three lengths."""


def evaluate(
    generators: Sampler | Sequence[Sampler],
    reference: Examples,
    *,
    features: FeatureNetwork,
    num: int = 10_000,
    sweep: Sweep | None = None,
    test: Examples | None = None,
    noise: bool = True,
    seed: int = 0,
    batch_size: int = 64,
    condition: Mapping[str, Value] | None = None,
    note_metrics: NoteMetrics | None = None,
    speech: Speech | None = None,
    progress: bool = True,
    console: Console | None = None,
) -> Report:
    """Judge models at several numbers of steps against real data.

    Samples are rounded to the 256 levels of a saved picture, looked at, and dropped; only features are kept.

    Args:
        generators: The model, and its teacher where there is one.
        reference: The real images, usually the training split.
        features: The network to judge with.
        num: Samples for each row.
        sweep: Settings by kind of model; :data:`DEFAULT_SWEEP` without.
        test: Other real images, for the row that says how good a perfect model would be.
        noise: Whether to add the row of pure noise.
        seed: Seed of the first sample; each row uses the same seeds.
        batch_size: Samples that go through a model together.
        condition: Conditions of every sample; a model draws the others for each item.
        note_metrics: For notes: held-out notes, whose conditions the samples have, with their metrics.
        speech: For speech: real sounds, with metrics of speech and of voices.
        progress: Whether to show a bar with speed and time left, on standard error.
        console: Where to show it instead.

    Raises:
        ValueError: If ``num`` is too small, a model's samples do not fit the data, or are not finite.
    """
    models = list(generators) if isinstance(generators, Sequence) else [generators]
    if num < _SMALLEST:
        raise ValueError(f"num must be at least {_SMALLEST} samples, got {num}; 10000 is usual")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    shape, kind = tuple(reference.values.shape[1:]), noun(reference.values)
    features.check_shape(shape)
    if note_metrics is not None:
        condition = note_metrics.condition | dict(condition or {})
    jobs = [(model, setting) for model in models for setting in _settings(model, sweep or DEFAULT_SWEEP)]
    given = _described(condition or {}) if note_metrics is None else {}
    notes = _notes(num, features, len(reference.values), given, kind)
    metrics = [metric for metric in (note_metrics, speech) if metric is not None]
    notes = (*notes, *(metric.meaning for metric in metrics))
    if speech is not None and test is None:
        notes = (*notes, f"row {REFERENCE!r}: voices against all others of the reference, the rest against itself")
    rows: list[Row] = []
    with display(progress, console) as bar:
        with line(bar, "reference", len(reference.values), kind) as advance:
            statistics = reference_statistics(reference, features, progress=advance)
        if speech is not None:
            with line(bar, "voices", len(speech.index), kind) as advance:
                speech.voices(advance)
        judge = _Judge(features, statistics, num)
        for model, setting in jobs:
            row = f"{model.name}, {setting.solver + ' ' if setting.solver else ''}{setting.steps}"
            weight = model.guidance if setting.guidance is None else setting.guidance
            with line(bar, row + (f", guidance {weight:g}" if weight not in (None, 1) else ""), num, kind) as advance:
                source = _Timed(model, setting, num, seed, batch_size, condition or {}, shape)
                facts = judge(source.batches(), advance, [metric.listen() for metric in metrics])
            rows.append(
                Row(
                    name=model.name,
                    kind=model.kind,
                    solver=setting.solver,
                    steps=setting.steps,
                    guidance=weight,
                    calls=model.network_calls(setting.steps, setting.solver, setting.guidance),
                    seconds=source.seconds,
                    **facts,
                )
            )
        if test is not None:
            # As many images as the models have samples, for the Fréchet distance shrinks with their number.
            pick = torch.randperm(len(test.values), generator=torch.Generator().manual_seed(seed))[:num].sort().values
            with line(bar, "test split", len(pick), kind) as advance:
                chosen = (to_float(test.values[index.numpy()]) for index in pick.split(250))
                listeners = [] if note_metrics is None else [note_metrics.listen(real=True)]
                listeners += [] if speech is None else [speech.listen()]
                rows.append(Row(name="test split", kind=SANITY, **judge(chosen, advance, listeners)))
        elif speech is not None:
            pick = speech.index[:num]
            with line(bar, REFERENCE, len(pick), kind) as advance:
                chosen = (to_float(speech.real.values[index.numpy()]) for index in pick.split(250))
                rows.append(Row(name=REFERENCE, kind=SANITY, **judge(chosen, advance, [speech.listen(real=True)])))
        if noise:
            heard = [] if speech is None else [speech.listen()]
            with line(bar, "noise", num, kind) as advance:
                rows.append(Row(name="noise", kind=SANITY, **judge(_noise(num, shape, seed), advance, heard)))
    return Report(
        rows=tuple(rows),
        features=features.label,
        data=str(getattr(reference, "source", "data")),
        fingerprint=reference.fingerprint,
        reference_count=statistics.moments.count,
        num=num,
        seed=seed,
        batch_size=batch_size,
        hardware=_computed_on(models),
        torch=torch.__version__,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notes=notes,
        condition=given,
        noun=kind,
    )


def _settings(model: Sampler, sweep: Sweep) -> Sequence[Setting]:
    if not sweep.get(model.kind):
        raise ValueError(f"the sweep has no setting for {model.name}, a {model.kind}; it has {', '.join(sweep)}")
    # Where others are asked for several weights, a model that takes none is asked once.
    given = sweep[model.kind]
    return given if model.guidance is not None else tuple(dict.fromkeys(replace(s, guidance=None) for s in given))


def _described(condition: Mapping[str, Value]) -> dict[str, str]:
    """The condition of the samples, in words."""
    return {
        name: str(value) if isinstance(value, int | float | str | Path) else "of each sample"
        for name, value in condition.items()
        if value is not None
    }


def _notes(num: int, features: FeatureNetwork, reference: int, given: Mapping[str, str], kind: str) -> tuple[str, ...]:
    notes = []
    if given:
        said = ", ".join(f"{name} {value}" for name, value in given.items())
        notes.append(
            f"the samples have the condition {said}, and the reference is all of the data: these figures compare only "
            "with those of samples with the same condition"
        )
    for what, count in (("samples", num), (f"reference {kind}", reference)):
        if count < 2 * features.dim:
            notes.append(
                f"{count} {what} are too few for {features.dim} features: the Fréchet distance comes out too large; "
                f"use at least {2 * features.dim}, better {max(10_000, 10 * features.dim)}"
            )
    for note in notes:
        _log.warning(note)
    return tuple(notes)


@final
class _Judge:
    """Sets batches of images against the reference."""

    def __init__(self, features: FeatureNetwork, statistics: ReferenceStatistics, num: int) -> None:
        self._features, self._statistics, self._num = features, statistics, num

    def __call__(self, batches: Iterator[Tensor], advance: Any, listeners: Sequence[Listener]) -> dict[str, Any]:
        moments, kept, seen = Moments(self._features.dim), [], list[Tensor]()

        def shown() -> Iterator[Tensor]:
            for batch in batches:
                seen[:] = [quantise(batch)]
                yield seen[0]

        for found in extract(self._features, shown(), progress=advance):
            moments.update(found)
            kept.append(found)
            for listener in listeners:
                listener.update(seen[0], found)
        fake = torch.cat(kept)
        # The subset is in random order, so its head is a random subset too; equal sizes keep the figures fair.
        real = self._statistics.subset[: len(fake)]
        kid, kid_std = kernel_distance(real, fake)
        near = neighbourhood(real, fake[: len(real)])
        return {
            "num": len(fake),
            "frechet": frechet_distance(self._statistics.moments, moments),
            "kid": kid,
            "kid_std": kid_std,
            "precision": near.precision,
            "recall": near.recall,
            "density": near.density,
            "coverage": near.coverage,
            "extra_metrics": {name: value for listener in listeners for name, value in listener.compute().items()},
        }


@final
class _Timed:
    """Samples of one model at one setting, batch by batch, and the time that sampling took."""

    def __init__(
        self,
        model: Sampler,
        setting: Setting,
        num: int,
        seed: int,
        batch_size: int,
        condition: Mapping[str, Value],
        shape: tuple[int, ...],
    ) -> None:
        self._model, self._setting, self._num, self._seed = model, setting, num, seed
        self._batch_size, self._condition, self._shape = batch_size, condition, shape
        self.seconds = 0.0
        for name, value in condition.items():
            if not (value is None or isinstance(value, int | float | str | Path)) and len(value) != num:
                raise ValueError(f"{name} has {len(value)} values for {num} samples; give one, or one for each")

    def _sample(self, start: int, stop: int) -> Tensor:
        given = {name: _part(value, start, stop) for name, value in self._condition.items()}
        size = stop - start
        kwargs: dict[str, Any] = {"steps": self._setting.steps, "seed": self._seed + start, "batch_size": size, **given}
        if self._setting.solver is not None:
            kwargs["solver"] = self._setting.solver
        if self._setting.guidance is not None:
            kwargs["guidance"] = self._setting.guidance
        return self._model.sample(size, **kwargs)

    def batches(self) -> Iterator[Tensor]:
        """The samples, in the order of their seeds.

        Raises:
            ValueError: If a sample does not fit the data or is not finite.
        """
        # The first call of a network at a size is slower than all others; it is not what a user waits for.
        self._sample(0, min(self._batch_size, self._num))
        for start in range(0, self._num, self._batch_size):
            stop = min(start + self._batch_size, self._num)
            begun = time.perf_counter()
            x = self._sample(start, stop)
            self.seconds += time.perf_counter() - begun
            if tuple(x.shape[1:]) != self._shape:
                made, real = ("x".join(map(str, s)) for s in (x.shape[1:], self._shape))
                raise ValueError(f"{self._model.name} makes samples of {made}, the data has {real}; use matching data")
            if not x.isfinite().all():
                raise ValueError(f"{self._model.name} makes samples that are not finite; its weights are broken")
            yield x


def _part(value: Value, start: int, stop: int) -> Value:
    return value if value is None or isinstance(value, int | float | str | Path) else value[start:stop]


def _noise(num: int, shape: tuple[int, ...], seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, num, 250):
        yield torch.randn(min(250, num - start), *shape, generator=generator).clamp(-1, 1)


def _computed_on(models: Sequence[Sampler]) -> str:
    """Hardware, and the arithmetic where it is not the usual one."""
    arithmetic = dict.fromkeys(getattr(model, "precision", "fp32") for model in models)
    named = "" if list(arithmetic) == ["fp32"] else f", {' and '.join(arithmetic)}"
    return hardware(*(getattr(model, "device", "cpu") for model in models)) + named
