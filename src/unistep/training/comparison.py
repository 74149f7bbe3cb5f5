"""At the end of a run that went on with a model: how far its samples are from the new data, and still from the old."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unistep.data import Dataset
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.evaluation.reference import batches, extract
from unistep.evaluation.roles import selection_features
from unistep.generation.generator import Generator
from unistep.training.rehearsal import old_data, still_known

REAL = 1000
"""At most so many items of a data set are compared with, spread over it."""
MANY = 4
"""Steps that one step is compared with."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Fréchet distances of few samples: to be compared with each other, and with nothing else."""

    one: float
    """Samples of one step from the new data."""
    many: float
    """Samples of four steps from the new data."""
    base: float | None = None
    """Samples of one step of the first model from the new data, where it makes signals of that shape."""
    old: str = ""
    """The data that the first model was trained on; empty where it cannot be had."""
    before: float | None = None
    """Samples of one step of the first model from its own data."""
    after: float | None = None
    """Samples of one step of the trained model from the old data, where it is asked for as before."""
    samples: int
    """Samples of each."""

    @property
    def numbers(self) -> dict[str, float]:
        """For the log."""
        named = {
            "compared/one_step": self.one,
            f"compared/{MANY}_steps": self.many,
            "compared/base": self.base,
            "compared/old_before": self.before,
            "compared/old_after": self.after,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def described(self) -> str:
        """In one line."""
        before = "" if self.base is None else f", before training {self.base:.3g}"
        text = f"one step {self.one:.3g}, four steps {self.many:.3g}{before} (your data)"
        if self.before is not None and self.after is not None:
            text += f"; old data ({self.old}) {self.before:.3g} -> {self.after:.3g}"
        return f"{text}; Fréchet distances of {self.samples} samples"


def compare(model: Generator, data: Dataset, start: Generator, samples: int) -> Comparison:
    """Compare a model with the one that it began from.

    Args:
        model: The trained model.
        data: Its data.
        start: The model whose weights it began with.
        samples: Samples of each distance.

    Raises:
        ValueError: If there is no feature network for such signals.
    """
    network = selection_features(data).to(model.device)
    real = _real(data, network)
    one, many = (_distance(model, data, network, real, samples, steps) for steps in (1, MANY))
    comparable = start.kind == model.kind and start.modality == model.modality
    base = _distance(start, data, network, real, samples, 1) if comparable else None
    found = Comparison(one=one, many=many, base=base, samples=samples)
    old = old_data(start)
    if old is None or start.kind != model.kind:
        return found
    network = selection_features(old).to(model.device)
    real = _real(old, network)
    before = _distance(start, old, network, real, samples, 1)
    after = _distance(as_before(model, start), old, network, real, samples, 1)
    return replace(found, old=old.source, before=before, after=after)


def as_before(model: Generator, start: Generator) -> Generator:
    """A model that takes the conditions of the one that it began from, as far as its network still knows them."""
    fields = dict(still_known(start.config, model.config))
    return Generator(model.map, replace(model.config, fields=fields), model.name, model.codec)


def _spread(count: int, most: int) -> list[int]:
    """At most so many of ``count`` indices, spread evenly."""
    return [i * count // min(count, most) for i in range(min(count, most))]


def _real(data: Dataset, network: FeatureNetwork) -> Moments:
    moments = Moments(network.dim)
    for features in extract(network, batches(data, _spread(len(data), REAL))):
        moments.update(features)
    return moments


def _distance(
    model: Generator, data: Dataset, network: FeatureNetwork, real: Moments, samples: int, steps: int
) -> float:
    """Distance of samples that are asked for what the data has, where it is not drawn from their seeds."""
    known = data.conditions([i * len(data) // samples for i in range(samples)])
    taken = {name: spec for name, spec in model.config.fields.items() if name in known and not spec.drawn}
    given: dict[str, Any] = {name: known[name] for name in taken}
    x = model.sample(samples, steps=steps, **given)
    moments = Moments(network.dim)
    for features in extract(network, _stored(model, x)):
        moments.update(features)
    return frechet_distance(real, moments)


def _stored(model: Generator, x: Tensor) -> Iterator[Tensor]:
    for part in x.split(100):
        yield model.modality.quantised(part)
