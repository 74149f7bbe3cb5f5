"""What a model was trained on before, which a run that goes on with it may rehearse and compare with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep import registry
from unistep.core.condition import GUIDANCE, AnyField
from unistep.data import Dataset, prepare
from unistep.data.remembered import DATA, data_like
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig

if TYPE_CHECKING:
    from unistep.training.run_config import RunConfig

USUAL = 0.5
"""Share of each batch that is old, where it is left open."""
REAL = 1000
"""At most so many items of a model's data, spread over it: all of them may take long to prepare."""
REPLAYED = 512
"""Samples of a model that stand for its data where that is not here."""


def with_rehearsal(config: RunConfig, fields: Mapping[str, AnyField], start: Generator | None) -> RunConfig:
    """The run with its share of old data, where that is left open.

    Old items that nothing tells from the new ones would come back in the samples. A condition tells them apart that the
    new data lacks, or that says what an item is, such as a text.

    Args:
        config: The run, with its model fitted.
        fields: Conditions of the new data.
        start: The model that its weights begin with.
    """
    if config.rehearsal is not None:
        return config
    goes_on = start is not None and start.kind == config.model.kind != "denoiser" and not config.objective.continues
    if not goes_on or start is None or config.teacher is not None or start.modality != config.model.modality:
        return replace(config, rehearsal=0.0)
    known = still_known(start.config, config.model)
    said = {name: spec for name, spec in known.items() if name != GUIDANCE}  # which says nothing of an item
    apart = any(name not in fields or not spec.drawn for name, spec in said.items())
    return replace(config, rehearsal=USUAL if apart and start.config.context is None else 0.0)


def old_data(start: Generator) -> Dataset | None:
    """The data of a model, brought to its shape; ``None`` where it is not here."""
    source = start.config.provenance.get(DATA, "")
    prefix, _, rest = source.partition(":")
    if prefix not in registry.names("source") or start.config.context is not None:
        return None
    if registry.lookup("source", prefix).local and not Path(rest).expanduser().exists():
        return None
    try:
        config = data_like(start.config.provenance, start.modality, source)
        data = prepare(replace(config, limit=REAL), progress=False)
    except (ValueError, OSError, ModuleNotFoundError):  # moved, changed, or of a package that is not here
        return None
    return data if data.modality.mismatch(start.modality) is None else None


def replayed(start: Generator) -> Dataset:
    """Samples of a model with their conditions, in place of its data (Shin et al. 2017, arXiv 1705.08690)."""
    seeds = range(REPLAYED)
    known = start.completed({}, seeds)
    given: dict[str, Any] = {name: value for name, value in known.items() if start.config.fields[name].drawn}
    x = start.sample(REPLAYED, seed=seeds, **given)
    fields = {name: start.config.fields[name] for name in given}
    return Dataset.from_tensors(x, modality=start.modality, fields=fields, source=f"samples of {start.name}", **given)


def still_known(start: ModelConfig, model: ModelConfig) -> Mapping[str, AnyField]:
    """The conditions of a model that mean the same to one which goes on with it."""
    return {
        name: spec for name, spec in start.fields.items() if name not in model.fields or model.fields[name].agrees(spec)
    }
