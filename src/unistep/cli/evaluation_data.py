"""Which data a model is compared with, and whether the two belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.data import DataConfig, Dataset
    from unistep.evaluation.speech_networks import SpeechNetworks
    from unistep.generation.generator import Generator


def speech_networks(model: Generator) -> SpeechNetworks:
    """The networks of ``--speech``, before the data is looked at.

    Raises:
        ValueError: If speech cannot be heard in the model's samples, or the networks are not installed.
    """
    from unistep.evaluation.speech_networks import SpeechNetworks, check_rate
    from unistep.modalities.audio import AudioModality

    sound = AudioModality.expect(model.modality, f"--speech is not for {model.name}: speech metrics")
    check_rate(sound.sample_rate, sound.samples)
    return SpeechNetworks()


def data_for(model: Generator, source: str | None) -> DataConfig:
    """The data to compare a model with, brought to the shape of its samples by the rules of its training data.

    Args:
        model: The model.
        source: The source that was asked for; without, the one that the model was trained on.

    Raises:
        ValueError: If nothing is known of the model's data, it is not there any more, or the source has another kind
            of signal.
    """
    from unistep import registry
    from unistep.data.remembered import DATA, data_like

    known = model.config.provenance.get(DATA)
    source = source or trained_on(model)
    if source is None and known:
        raise ValueError(f"what {model.name} was trained on, {known}, is not here; say with --data where it is now")
    source = source or model.modality.default_source
    if source is None:
        raise ValueError(
            f"say with --data what the {model.modality.noun}s of {model.name} should be like, such as "
            f"folder:my_{model.modality.noun}s"
        )
    made = registry.name_of("modality", model.modality)
    config = data_like(model.config.provenance, model.modality, source)
    kinds = registry.entries("source")
    has = (
        kinds[config.prefix].modality if config.prefix in kinds else None
    )  # an unknown one is refused when it is opened
    if has is not None and has != made:
        real = registry.lookup("modality", has).noun
        raise ValueError(f"{model.name} makes {model.modality.noun}s, {source} has {real}s; use matching data")
    if model.config.context is None or config.options is None:
        return config
    return replace(config, options=config.options.as_windows())


def trained_on(model: Generator) -> str | None:
    """The source that a model was trained on, if it is still there."""
    from unistep import registry
    from unistep.data.remembered import DATA

    known = model.config.provenance.get(DATA, "")
    prefix, _, rest = known.partition(":")
    if prefix not in registry.names("source"):
        return None
    return known if not registry.lookup("source", prefix).local or Path(rest).expanduser().exists() else None


def test_split(config: DataConfig) -> DataConfig:
    """The held-out part that shows how good a perfect model would be; the same data where there is none."""
    from unistep import registry

    prefix, *parts = config.source.split(":")
    splits = registry.lookup("source", prefix).splits
    if "test" not in splits or {"test", "excerpt"} & {config.split, *parts}:
        return config
    return replace(config, source=":".join([prefix, *(part for part in parts if part != "train")]), split="test")


def check_data(models: Sequence[Generator], reference: Dataset) -> None:
    """Say before sampling whether the data is like what the models make.

    Raises:
        ValueError: Naming the model, the data, and in what they differ.
    """
    for model in models:
        made, real = model.modality, reference.modality
        if made.mismatch(real) is not None:
            raise ValueError(
                f"{model.name} makes {made.noun}s of {made.described}, {reference.source} has {real.noun}s of "
                f"{real.described}; use matching data"
            )
