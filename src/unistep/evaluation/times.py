"""Finding the intermediate times of few-step sampling, by the Fréchet distance that they give."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from unistep.core.time_search import search_times
from unistep.data import DataConfig, Dataset, prepare
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.quick import quick_fd
from unistep.files import write_text
from unistep.generation.generator import Generator
from unistep.serialization import to_plain

FINEST = 0.05
"""No intermediate noise level is searched below this share of the data's standard deviation."""


def best_times(
    generator: Generator,
    steps: int,
    *,
    data: str | DataConfig | Dataset = "fashion-mnist",
    selection_features: str | FeatureNetwork | None = None,
    num: int = 2000,
    seed: int = 1_000_000,
    levels: int = 32,
    on_try: Callable[[tuple[float, ...], float], None] | None = None,
) -> Generator:
    """Search the times of ``steps``-step sampling, one after the other, and return a generator that uses them.

    Args:
        generator: A one-step model.
        steps: Number of steps, at least 2; times of fewer steps that the model has already are kept.
        data: Data to compare with, by name, as a configuration or a data set. Samples have the conditions of its items,
            spread evenly over it, so that a model of texts is asked for what the data shows.
        selection_features: The feature network that selects the times, as :func:`load_features` takes it; without, the
            one that selects models of such data. It is not to report them.
        num: Samples for each distance; always of the same seeds, so that the candidates differ in their times only.
        seed: First of those seeds; not those that the final figures are measured on.
        levels: Number of candidate noise levels.
        on_try: Called with each candidate and its distance.

    Raises:
        ValueError: If the model is not a one-step model, or ``steps`` is below 2.

    References:
        Song et al. 2023, arXiv 2303.01469, section 3 and appendix C.
    """
    config = generator.config
    if config.kind == "denoiser":
        raise ValueError(f"{generator.name} is a denoiser: only one-step models have intermediate times to search")
    if steps < 2:
        raise ValueError(f"one step has no intermediate time to search; steps must be at least 2, got {steps}")

    def with_times(times: tuple[float, ...]) -> Generator:
        found = {**config.times, str(len(times)): times}
        made = Generator(generator.map, replace(config, times=found), generator.name, generator.codec)
        made.precision, made.acceleration = generator.precision, generator.acceleration
        return made

    source = DataConfig(source=data) if isinstance(data, str) else data
    reference = prepare(source) if isinstance(source, DataConfig) else source
    items = reference.conditions([i * len(reference) // num for i in range(num)])
    condition = {name: value for name, value in items.items() if name in config.fields}

    def score(times: tuple[float, ...]) -> float:
        x = with_times(times).sample(num, steps=len(times), seed=seed, **condition)  # type: ignore[arg-type]
        return quick_fd(x, reference, features=selection_features)

    known = max((t for n, t in config.times.items() if int(n) < steps), key=len, default=(config.path.t_max,))
    times = search_times(
        score,
        steps,
        config.path.t_max,
        float(config.path.time_at(torch.tensor(max(FINEST * config.sigma_data, config.sigma_min_trained)))),
        levels=levels,
        known=known[1:],
        on_try=on_try,
    )
    return with_times(times)


def write_times(generator: Generator, folder: Path) -> None:
    """Put the times of a generator into its model's ``config.json``."""
    write_text(folder / "config.json", json.dumps(to_plain(generator.config), indent=2) + "\n")
