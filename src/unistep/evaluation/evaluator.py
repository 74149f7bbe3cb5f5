"""The whole evaluation: sample each model at each setting, and compare its features with those of the real data."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from unistep.core.condition import ConditionValue
from unistep.data import DataConfig, prepare
from unistep.evaluation.comparison import Compared, NetworkComparison
from unistep.evaluation.extra_figures import Found, extra_figures, over_teacher, values
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.hardware import hardware
from unistep.evaluation.measuring import Measure, Measured, part_of
from unistep.evaluation.progress import display, line
from unistep.evaluation.reference import Examples, batches, reference_statistics
from unistep.evaluation.report import REFERENCE, SANITY, Report, Row
from unistep.evaluation.roles import feature_roles, load_networks
from unistep.evaluation.sample_metrics import SampleMetrics
from unistep.evaluation.samplers import (
    AnySampler,
    GivenSamples,
    Sampler,
    Setting,
    Sweep,
    as_sampler,
    usual_settings,
)

if TYPE_CHECKING:
    from rich.console import Console

    from unistep.modalities.base import Modality

_SMALLEST = 10
_FEWEST = 6  # real items: precision and recall look at the nearest five
_log = logging.getLogger(__name__)

Value = ConditionValue | Sequence[ConditionValue] | None
"""A field of a condition: one value for all samples, or one for each."""


def evaluate(
    models: AnySampler | Sequence[AnySampler],
    reference: Examples | DataConfig | str,
    *,
    features: FeatureNetwork | str | Sequence[FeatureNetwork | str] | None = None,
    num: int = 10_000,
    sweep: Sweep | None = None,
    test: Examples | None = None,
    noise: bool = True,
    seed: int = 0,
    batch_size: int = 64,
    condition: Mapping[str, Value] | None = None,
    metrics: Sequence[SampleMetrics] = (),
    progress: bool = True,
    console: Console | None = None,
) -> Report:
    """Compare models at several numbers of steps with real data.

    Samples are rounded to the levels that stored items have, turned into features, and dropped; only features are kept.

    Args:
        models: The model, and its teacher second where there is one: each a generator, a map, a function
            ``(num, seed) -> samples``, a tensor of samples, or the name or folder of a saved model.
        reference: The real items, usually the training split: a data set, its configuration or its name.
        features: The networks whose features are compared, or their names; without, all those of the data by
            :func:`~unistep.evaluation.roles.feature_roles`, first those that report, then the one that selects.
        num: Samples for each row.
        sweep: Settings by kind of model; :func:`~unistep.evaluation.samplers.usual_settings` without.
        test: Other real items, for the row that says how good a perfect model would be.
        noise: Whether to add the row of pure noise.
        seed: Seed of the first sample; each row uses the same seeds.
        batch_size: Samples that go through a model together.
        condition: Fields that every sample has; a model draws the others for each item.
        metrics: Metrics beside those of features, such as :class:`~unistep.evaluation.note_metrics.NoteMetrics`.
        progress: Whether to show a bar with speed and time left, on standard error.
        console: Where to show it instead.

    Raises:
        ValueError: If ``num`` is too small, or larger than the number of samples that are given, a model's samples do
            not fit the data, or are not finite, or a condition is given to what cannot have it.
    """
    if num < _SMALLEST:
        raise ValueError(f"num must be at least {_SMALLEST} samples, got {num}; 10000 is usual")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    reference = _opened(reference)
    modality = reference.modality
    for what, items in (("reference", reference), ("test split", test)):
        if items is not None and len(items) < _FEWEST:
            raise ValueError(f"the {what} needs at least {_FEWEST} {modality.noun}s, got {len(items)}; give more data")
    several = isinstance(models, Sequence) and not isinstance(models, str)
    samplers = [as_sampler(model, reference) for model in (models if several else [models])]  # type: ignore[list-item]
    for sampler in samplers:
        if isinstance(sampler, GivenSamples) and len(sampler) < num:
            raise ValueError(
                f"{sampler.name} has {len(sampler)} {modality.noun}s, and num is {num}: they would count several "
                f"times; give num={len(sampler)}"
            )
    roles = feature_roles(reference)
    given_features = roles.evaluation if features is None else features
    specs = [given_features] if isinstance(given_features, FeatureNetwork | str) else list(given_features)
    given = dict(condition or {})
    for metric in metrics:
        given = {**metric.condition, **given}
    free = not any(metric.condition for metric in metrics)
    fixed = _in_words(condition or {}) if free else {}
    jobs = [(model, setting) for model in samplers for setting in _settings(model, sweep)]
    by_itself = next((m.reference_indices for m in metrics if test is None and m.reference_indices is not None), None)
    rows: list[Evaluated] = []
    with display(progress, console) as bar:
        noun = f"{modality.noun}s"
        networks = load_networks(specs, reference, bar=bar)
        notes = (
            *_notes(num, networks, len(reference), fixed, modality),
            *(metric.meaning for metric in metrics),
        )
        if by_itself is not None:
            notes += (
                f"row {REFERENCE!r}: the extra metrics against all others of the reference, the rest against itself",
            )
        statistics = []
        for network in networks:
            with line(bar, f"reference, {network.name}", len(reference), noun) as advance:
                statistics.append(reference_statistics(reference, network, progress=advance))
        for metric in metrics:
            if metric.work:
                with line(bar, "extra metrics", metric.work, noun) as advance:
                    metric.prepare(advance or (lambda count: None))
        measure = Measure(networks, modality, metrics)
        held_out: Measured | None = None
        if test is not None:
            # As many items as the models have samples, since the Fréchet distance falls with their number.
            order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))[:num].sort().values
            with line(bar, "test split", len(order), noun) as advance:
                held_out = measure(batches(test, order.tolist()), advance, "test")
        comparisons = [
            NetworkComparison(network, found, None if held_out is None else held_out.features[i], num)
            for i, (network, found) in enumerate(zip(networks, statistics, strict=True))
        ]

        def add(found: Measured, **known: Any) -> None:
            compared = [compare(x) for compare, x in zip(comparisons, found.features, strict=True)]
            figures = tuple(each.figures for each in compared)
            extra = found.extra_metrics
            more = extra_figures(extra, None if held_out is None else held_out.extra_metrics, found.alike)
            row = Row(num=found.count, figures=figures, extra_metrics=values(extra), extra_figures=more, **known)
            rows.append(Evaluated(row=row, compared=compared, extra=extra))

        beside = part_of(num, None if held_out is None else held_out.count)
        for model, setting in jobs:
            weight = model.guidance if setting.guidance is None else setting.guidance
            with line(bar, _titled(model, setting, weight), num, noun) as advance:
                source = _TimedSamples(model, setting, num, seed, batch_size, given, modality.shape)
                found = measure(source.batches(), advance, "samples", beside)
            add(
                found,
                name=model.name,
                kind=model.kind,
                solver=setting.solver,
                steps=setting.steps,
                guidance=weight,
                calls=model.network_calls(setting.steps, setting.solver, setting.guidance),
                seconds=source.seconds,
            )
        selecting = next((i for i, network in enumerate(networks) if network.name == roles.selection), None)
        teacher = _beside_teacher(rows, jobs, samplers[1] if len(samplers) > 1 else None, selecting or 0)
        if held_out is not None:
            add(held_out, name="test split", kind=SANITY)
        elif by_itself is not None:
            chosen = by_itself[:num]
            with line(bar, REFERENCE, len(chosen), noun) as advance:
                add(measure(batches(reference, chosen), advance, "reference"), name=REFERENCE, kind=SANITY)
        if noise:
            with line(bar, "noise", num, noun) as advance:
                add(measure(_noise(num, modality.shape, seed), advance, "noise"), name="noise", kind=SANITY)
    return Report(
        rows=tuple(each.row for each in rows),
        networks=tuple(each.reported(selects=i == selecting) for i, each in enumerate(comparisons)),
        teacher=teacher,
        data=str(getattr(reference, "source", "data")),
        fingerprint=reference.fingerprint,
        reference_count=statistics[0].moments.count,
        num=num,
        seed=seed,
        batch_size=batch_size,
        hardware=_computed_on(samplers),
        torch=torch.__version__,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        notes=notes,
        condition=fixed,
        noun=noun,
    )


@final
@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A row with what its ratios to another one are computed from."""

    row: Row
    """The row."""
    compared: list[Compared]
    """What was found on each network."""
    extra: Found
    """What the further metrics found."""


def _beside_teacher(
    rows: list[Evaluated], jobs: Sequence[tuple[Sampler, Setting]], teacher: Sampler | None, by: int
) -> str | None:
    """Give the rows of the model its ratios to the teacher's best row, and say which that is.

    The best one by the network that selects, so that the networks that report had no say in it.
    """
    own = [row for row, (model, _) in zip(rows, jobs, strict=True) if model is teacher]
    if not own:
        return None
    best = min(own, key=lambda each: each.row.figures[by].frechet)
    for i, (each, (model, _)) in enumerate(zip(list(rows), jobs, strict=True)):
        if model is not teacher:
            figures = tuple(a.over(b) for a, b in zip(each.compared, best.compared, strict=True))
            more = over_teacher(each.row.extra_figures, each.extra, best.extra)
            rows[i] = replace(each, row=replace(each.row, figures=figures, extra_figures=more))
    return " ".join(part for part in (best.row.name, best.row.sampler) if part)


def _opened(data: Examples | DataConfig | str) -> Examples:
    if isinstance(data, str):
        data = DataConfig(source=data)
    return prepare(data) if isinstance(data, DataConfig) else data


def _titled(model: Sampler, setting: Setting, weight: float | None) -> str:
    """A row's title for the progress bar."""
    sampler = " ".join(str(part) for part in (setting.solver, setting.steps) if part is not None)
    guided = "" if weight in (None, 1) else f", guidance {weight:g}"
    return f"{model.name}{', ' if sampler else ''}{sampler}{guided}"


def _settings(model: Sampler, sweep: Sweep | None) -> Sequence[Setting]:
    given = (sweep.get(model.kind) or (Setting(),)) if sweep else usual_settings(model)
    # Where others have several weights, a model that takes none has one row.
    return given if model.guidance is not None else tuple(dict.fromkeys(replace(s, guidance=None) for s in given))


def _in_words(condition: Mapping[str, Value]) -> dict[str, str]:
    """The condition of all samples, for the caption."""
    return {
        name: str(value) if isinstance(value, int | float | str | Path) else "of each sample"
        for name, value in condition.items()
        if value is not None
    }


def _notes(
    num: int, networks: Sequence[FeatureNetwork], reference: int, fixed: Mapping[str, str], modality: Modality
) -> tuple[str, ...]:
    notes = []
    if fixed:
        said = ", ".join(f"{name} {value}" for name, value in fixed.items())
        notes.append(
            f"the samples have {said}, and the reference is all of the data: these figures compare only with those of "
            "samples with the same condition"
        )
    widest = max(networks, key=lambda network: network.dim)
    for what, count in (("samples", num), (f"reference {modality.noun}s", reference)):
        if count < 2 * widest.dim:
            notes.append(
                f"{count} {what} are too few for {widest.dim} features ({widest.name}): the Fréchet distance comes out "
                f"too large; use at least {2 * widest.dim}, better {max(10_000, 10 * widest.dim)}"
            )
    for note in notes:
        _log.warning(note)
    return tuple(notes)


@final
class _TimedSamples:
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
        kwargs: dict[str, Any] = {"seed": self._seed + start, "batch_size": size, **given}
        if self._setting.steps is not None:
            kwargs["steps"] = self._setting.steps
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
