"""The Fréchet distance between samples and a data set in one call, for experiments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from unistep.data import DataConfig, prepare
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.evaluation.reference import Examples, extract, reference_statistics
from unistep.evaluation.roles import selection_features

SMALLEST = 10
"""Fewer samples than this have no distance worth the name."""
FARTHEST = 10.0
"""No signal that has not been clamped to [-1, 1] goes so far: values beyond are of another range, or none."""


def quick_fd(
    samples: np.ndarray | Tensor,
    data: str | DataConfig | Examples = "fashion-mnist",
    *,
    split: str = "train",
    features: str | FeatureNetwork | None = None,
    device: torch.device | str = "cpu",
) -> float:
    """Fréchet distance between samples and a data set.

    Args:
        samples: Signals in [-1, 1], ``[n, *shape]``, which are rounded to the levels that stored ones have; or stored
            ones, such as uint8 pixels.
        data: A source of :mod:`unistep.data` by name, a configuration, or a data set.
        split: The split to compare with, of a source by name.
        features: A feature network, or its name as :func:`load_features` takes it; without, the one by which models of
            such data are selected. What is to be published is reported on others: see :func:`unistep.evaluate`.
        device: Where that network computes.

    Raises:
        ValueError: For fewer than ten samples, for signals that lie in [0, 1] or [0, 255], or for a shape that the
            network or the data does not have, and for values that are not finite.
    """
    dataset = prepare(DataConfig(source=data, split=split)) if isinstance(data, str) else data
    dataset = prepare(dataset) if isinstance(dataset, DataConfig) else dataset
    modality = dataset.modality
    x = torch.from_numpy(np.array(samples)) if isinstance(samples, np.ndarray) else samples.detach()
    if tuple(x.shape[1:]) != modality.shape:
        raise ValueError(f"samples must have shape [n, {', '.join(map(str, modality.shape))}], got {list(x.shape)}")
    if len(x) < SMALLEST:
        raise ValueError(f"a Fréchet distance needs at least {SMALLEST} samples, got {len(x)}; 10000 is usual")
    if x.is_floating_point() and float(x.min()) >= 0 and 0 < float(x.max()) <= 1:
        raise ValueError("samples must be in [-1, 1], and these lie in [0, 1]; give 2 * x - 1")
    if x.is_floating_point() and not x.isfinite().all():
        raise ValueError("the samples hold values that are not finite; what made them is broken")
    if x.is_floating_point() and float(x.abs().max()) > FARTHEST:
        raise ValueError(
            f"samples must be in [-1, 1], and these reach {float(x.abs().max()):g}; give x / 127.5 - 1 of pixels, or x "
            "as uint8"
        )
    network = selection_features(dataset) if features is None else load_features(features, modality, data=dataset)
    network = network.to(device)
    if len(x) < 2 * network.dim:
        warnings.warn(
            f"{len(x)} samples are few for {network.dim} features: the distance comes out too large", stacklevel=2
        )

    def parts() -> Iterator[Tensor]:
        for part in x.split(250):
            yield modality.quantised(part.float()) if part.is_floating_point() else modality.to_signal(part)

    moments = Moments(network.dim)
    for found in extract(network, parts()):
        moments.update(found)
    return frechet_distance(reference_statistics(dataset, network).moments, moments)
