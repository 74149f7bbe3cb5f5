"""The data that a model was trained on, as its configuration says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unistep import registry
from unistep.data.options import DataConfig
from unistep.modalities.base import Modality
from unistep.serialization import from_plain, to_plain

DATA, OPTIONS = "data", "data options"
"""Keys of a model's provenance: the source, and in JSON what else its items depend on and the model does not say."""

_FIELDS = ("split", "captions")  # further ones of the data, beside the options of its modality


def data_provenance(config: DataConfig, modality: Modality) -> dict[str, str]:
    """What a model says of its data.

    Args:
        config: The data.
        modality: What the model makes, whose shape needs no option.
    """
    plain, usual, known = to_plain(config), to_plain(DataConfig()), modality.as_options().given
    found: dict[str, Any] = {name: plain[name] for name in _FIELDS if plain[name] != usual[name]}
    given = [] if config.options is None else [name for name in config.options.given if name not in known]
    if given:
        found["options"] = {name: plain["options"][name] for name in ("type", *given)}
    return {DATA: config.source, **({OPTIONS: json.dumps(found, sort_keys=True)} if found else {})}


def data_like(provenance: Mapping[str, str], modality: Modality, source: str) -> DataConfig:
    """Data that is brought to a model's signals by the rules by which those that it was trained on were.

    Args:
        provenance: What the model says.
        modality: What it makes.
        source: Where the data is from.

    Raises:
        ValueError: If what the model says cannot be read.
    """
    options = modality.as_options()
    config = DataConfig(source=source, modality=registry.name_of("modality", modality), options=options)
    if OPTIONS not in provenance:
        return config
    said = json.loads(provenance[OPTIONS])
    if not isinstance(said, dict):
        raise ValueError(f"a model says of its data {provenance[OPTIONS][:60]!r}, which is no set of options")
    known = from_plain(DataConfig, {"source": source, **said})
    if known.options is not None and type(known.options) is type(options):
        more = {name: value for name, value in known.options.given.items() if name not in options.given}
        config = replace(config, options=replace(options, **more))
    split = known.split if source == provenance.get(DATA) else config.split
    return replace(config, captions=known.captions, split=split)
