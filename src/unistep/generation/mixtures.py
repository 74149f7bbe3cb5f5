"""Mixtures of Gaussians that models' samples are fitted by, for editing, made once and kept in the cache."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unistep.data.progress import progress_bar
from unistep.editing import mixture as fitting
from unistep.editing.constraints import Linear
from unistep.editing.mixture import Mixture, fit_mixture
from unistep.editing.mixture_constraint import MixtureLinear
from unistep.editing.solvers import Problem
from unistep.editing.task import Restoration, Task
from unistep.files import replacing, user_cache
from unistep.generation.requests import Cancel
from unistep.weights import read_weights, weights_hash, write_weights

if TYPE_CHECKING:
    from unistep.generation.generator import Generator

SAMPLES = 8_000
"""Samples that a mixture is fitted to."""
SEED = 6_000_000
"""Seed of the first, so that no results have them."""
STEPS, SOLVER = 8, "dpmpp2m"
"""How a many-step denoiser makes them."""
BATCH = 64
"""Samples that go through the network together."""
MOST_VALUES = 16_384
"""Most values of a signal: beyond, the axes would take gigabytes, and so few samples would not say what they are."""
MOST_SECONDS = 900.0
"""Longest time that is taken for the samples."""
_LAYOUT = "unistep-mixture-1"
_log = logging.getLogger(__name__)


def check_mixture(generator: Generator, work: Task) -> None:
    """Check that the solver ``mixture`` can do a task with a model.

    Raises:
        ValueError: If not, saying why and what can.
    """
    instead = "take the solver back-projection"
    if not isinstance(work, Restoration):
        raise ValueError(f"the solver mixture undoes linear measurements, and {work.name()} is none; {instead}")
    if generator.config.context is not None:
        raise ValueError(f"the solver mixture edits whole signals, and {generator.name} generates streams; {instead}")
    _check_signals(generator)


def _check_signals(generator: Generator) -> None:
    """Raise where samples of a model make no mixture that is of use to a network."""
    size = math.prod(generator.signal_shape)
    if size > MOST_VALUES:
        raise ValueError(
            f"the solver mixture is for signals of at most {MOST_VALUES:,} values, and those of {generator.name} have "
            f"{size:,}; take the solver back-projection"
        )
    if generator.shape != generator.signal_shape:
        raise ValueError(
            f"the solver mixture is for models whose network sees signals as they are, and that of {generator.name} "
            "sees a code of them; take the solver back-projection"
        )


def mixture_of(generator: Generator, *, show: bool = True, cancel: Cancel = None) -> Mixture:
    """The mixture that is fitted to samples of a model, from the cache where it has been made before.

    Args:
        generator: The model: of one step, or a denoiser, which samples in few steps here.
        show: Whether to show a bar on a terminal while it is made.
        cancel: Whether to stop, as in :meth:`Generator.sample`.

    Raises:
        ValueError: If samples of the model are too large, or would take too long to make.
        CancelledError: If it was cancelled.
    """
    _check_signals(generator)
    path = _kept_in(generator)
    found = _read(path)
    if found is not None:
        return found
    with progress_bar(f"{SAMPLES:,} samples of {generator.name} for the solver mixture", SAMPLES, show) as advance:
        samples = _samples(generator, advance, cancel)
    with progress_bar(f"the mixture of {generator.name}", fitting.CLUSTERS, show) as advance:
        made = fit_mixture(samples, progress=advance)
    try:
        with replacing(path) as temporary:
            write_weights(made.tensors(), temporary)
    except (OSError, ValueError) as error:  # costs time at the next start, and not the result
        _log.warning("the mixture of %s was not kept: %s", generator.name, error)
    return made


def _samples(generator: Generator, advance: Callable[[int], object], cancel: Cancel) -> torch.Tensor:
    """Samples of a model, each of its seed.

    Raises:
        ValueError: If they would take too long.
    """
    how: dict[str, Any] = {"steps": STEPS, "solver": SOLVER} if generator.kind == "denoiser" else {}
    made, began = [], time.perf_counter()
    for start in range(0, SAMPLES, BATCH):
        seeds = range(SEED + start, SEED + min(start + BATCH, SAMPLES))
        made.append(generator.sample(seed=seeds, batch_size=BATCH, cancel=cancel, **how))
        advance(len(seeds))
        if len(made) == 2:  # the first batch also warms up
            seconds = (time.perf_counter() - began) / (2 * BATCH) * SAMPLES
            if seconds > MOST_SECONDS:
                raise ValueError(
                    f"{SAMPLES:,} samples of {generator.name} would take {seconds / 60:.0f} minutes, more than the "
                    f"{MOST_SECONDS / 60:.0f} of the solver mixture; give a faster model of such signals as prior"
                )
    return torch.cat(made)


def with_mixture(
    generator: Generator, problem: Problem, prior: Mixture | Generator | None = None, cancel: Cancel = None
) -> Problem:
    """A problem whose beginning and corrections are those of a mixture.

    Args:
        generator: The model that edits.
        problem: A linear measurement, of a task that has passed :func:`check_mixture`.
        prior: A mixture, the model whose samples make it, or ``None`` for the model itself.
        cancel: Whether to stop.

    Raises:
        ValueError: If the prior is of other signals.
    """
    assert isinstance(problem.constraint, Linear)
    if not isinstance(prior, Mixture):
        prior = mixture_of(generator if prior is None else prior, cancel=cancel)
    size, own = prior.means.shape[1], math.prod(generator.signal_shape)
    if size != own:
        raise ValueError(
            f"the prior is of signals of {size:,} values, and those of {generator.name} have {own:,}; give one of "
            "such signals"
        )
    ones = torch.ones(1, *generator.signal_shape, device=generator.device)
    scale = float((generator.codec.encode(ones) - generator.codec.encode(0 * ones)).mean())
    return replace(problem, start=None, constraint=MixtureLinear(problem.constraint, prior, scale=scale))


def _kept_in(generator: Generator) -> Path:
    """The file of a model's mixture, named after all that it depends on."""
    how = (_LAYOUT, generator.kind, generator.precision, SAMPLES, SEED, STEPS, SOLVER, fitting.CLUSTERS, fitting.RANK)
    # The same weights make other samples of another size, on another path, or in other modules.
    model = generator.config
    how += (model.modality.shape, model.codec, model.path, model.sigma_data, model.boundary, model.gamma)
    how += (model.fields, model.times, model.steps, str(generator.map.net))
    key = hashlib.sha256(f"{how}\n{weights_hash(generator.map.net.state_dict())}".encode()).hexdigest()
    return user_cache() / "mixtures" / f"{key[:32]}.safetensors"


def _read(path: Path) -> Mixture | None:
    """A mixture that was kept; ``None`` where there is none, or no whole one."""
    if not path.is_file():
        return None
    try:
        found = read_weights(path)
        if found.keys() == {part.name for part in fields(Mixture)}:
            return Mixture(**found)
        _log.warning("%s holds no mixture; it is made anew", path)
    except ValueError as error:
        _log.warning("%s; it is made anew", error)
    return None
