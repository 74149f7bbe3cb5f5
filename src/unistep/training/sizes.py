"""The size of the signals, chosen by the budget where a person gives none: what each size gets, and what it wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unistep import registry
from unistep.data import DataConfig
from unistep.data.cache import cache_root
from unistep.data.sources.opening import open_source
from unistep.hub.load import load, models
from unistep.modalities.base import Modality
from unistep.training.budget import parse_amount, rounded_up
from unistep.training.outlook import Need, counted, least_met, needs, student_items
from unistep.training.run_config import RunConfig
from unistep.training.stages import needs_own_teacher

Speed = Callable[[RunConfig, Modality], float]
"""Items per second of the first stage of a run on signals of a modality, by a short timing run."""


@dataclass(frozen=True, kw_only=True)
class SizeOutlook:
    """What a budget buys at one size."""

    modality: Modality
    """Signals of the size."""
    needs: tuple[Need, ...]
    """What its models get and want."""
    items: float
    """Items that they see together."""
    wanted: str
    """The budget that is enough."""

    @property
    def option(self) -> str:
        """What a person types to get the size."""
        return self.modality.shape_option(self.modality.shape)

    @property
    def share(self) -> float:
        """What it gets over what it wants, of whatever it has least of."""
        worst = least_met(self.needs)
        return 1.0 if worst is None else worst.share

    def described(self, budget: str, count: int) -> str:
        """One line of the table.

        Args:
            budget: The budget as it was written.
            count: Items of the data.
        """
        noun = f"{self.modality.noun}s"
        which = [need for need in self.needs if need.unit == noun]
        parts = ", ".join(f"{need.who} {counted(need.gets)} of {counted(need.wants)} wanted" for need in which)
        enough = "enough" if self.share >= 1 else f"wants --budget {self.wanted}"
        return f"{counted(self.items)} {noun} in {budget}, {self.items / count:,.0f} passes ({parts}): {enough}"


@dataclass(frozen=True, kw_only=True)
class ChosenSize:
    """A run with the size of its signals, and a table of the sizes that there were."""

    config: RunConfig
    """The run."""
    rows: dict[str, str]
    """The table; empty where there was nothing to choose."""


def choose_size(config: RunConfig, speed: Speed) -> ChosenSize:
    """The run with the largest size that its budget is enough for, or else the one that it is nearest to.

    A model that training starts from has a size, which is taken. Otherwise there is a choice where the source's files
    have sizes of their own, the data's options give none, and the budget is a time or a number of items.

    Args:
        config: What is requested.
        speed: Times a size.

    Raises:
        ValueError: If the source cannot be opened.
    """
    if "size" not in config.auto:
        return ChosenSize(config=config, rows={})
    config = replace(config, auto=tuple(name for name in config.auto if name != "size"))
    source = open_source(config.data, cache_root(None) / "downloads")
    name = source.modality_of(config.data)
    kind: type[Modality] = registry.lookup("modality", name)
    options, own = config.data.options_for(name), source.own_shapes(config.data)
    known = config.init or config.teacher
    if known is not None and own:
        theirs = load(known).modality
        fitting = kind.options_like(options, theirs) if isinstance(theirs, kind) else options
        said = {theirs.described: f"that of {known}, whose weights training starts from"}
        return ChosenSize(config=with_options(config, fitting), rows={} if fitting == options else said)
    candidates = kind.sizes_to_consider(options, own) if config.max_steps is None else ()
    if len(candidates) < 2:
        return ChosenSize(config=config, rows={})
    runs = [with_options(config, kind.options_like(options, modality)) for modality in candidates]
    timed = parse_amount(config.budget, "budget").unit == "seconds"
    outlooks = [
        size_outlook(run, size, speed(run, size) if timed else 1.0) for run, size in zip(runs, candidates, strict=True)
    ]
    chosen = best_of(outlooks)
    count = source.open(config.data).count
    rows = {outlook.modality.described: outlook.described(config.budget, count) for outlook in outlooks}
    return ChosenSize(config=runs[outlooks.index(chosen)], rows=rows | {"chosen": _reason(chosen, outlooks)})


def size_outlook(config: RunConfig, modality: Modality, speed: float) -> SizeOutlook:
    """What the budget buys.

    Args:
        config: The whole run.
        modality: Signals of a size.
        speed: Items per second of its first stage.
    """
    budget, own_teacher = parse_amount(config.budget, "budget"), needs_own_teacher(config)
    open_start = "init" in config.auto and "network" in config.auto
    enough = modality.enough_items(from_base=open_start and modality.default_base() in models())
    share = config.teacher_share if own_teacher else 1.0
    first = budget.value * share * (speed if budget.unit == "seconds" else 1.0)
    items, batch_size = student_items(config, budget, speed) if own_teacher else (first, config.batch_size)
    teacher = first if own_teacher else None
    found = tuple(needs(config, modality.noun, enough, teacher=teacher, items=items, batch_size=batch_size))
    worst = least_met(found)
    return SizeOutlook(
        modality=modality,
        needs=found,
        items=items + (teacher or 0.0),
        wanted=config.budget if worst is None else rounded_up(budget.value / worst.share, budget.unit),
    )


def best_of(outlooks: Sequence[SizeOutlook]) -> SizeOutlook:
    """The largest size that the budget is enough for; else the one that gets most of what it wants.

    Args:
        outlooks: From small to large.
    """
    enough = [outlook for outlook in outlooks if outlook.share >= 1]
    return enough[-1] if enough else max(outlooks, key=lambda outlook: outlook.share)


def with_options(config: RunConfig, options: Any) -> RunConfig:
    """The run whose files are brought to signals by these options."""
    data: DataConfig = replace(config.data, options=options) if options.given else config.data
    return replace(config, data=data)


def _reason(chosen: SizeOutlook, outlooks: Sequence[SizeOutlook]) -> str:
    if chosen.share < 1:
        return f"{chosen.option}, the nearest to enough; the budget is short for each"
    larger = outlooks[outlooks.index(chosen) + 1 :]
    more = f"; the next wants --budget {larger[0].wanted}" if larger else ""
    return f"{chosen.option}, the largest that the budget is enough for{more}"
