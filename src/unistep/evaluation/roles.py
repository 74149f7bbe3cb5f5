"""Which feature networks select models of some data, and which report on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from unistep import registry
from unistep.evaluation.feature_loading import load_features
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.learned_features import LearnedLoader
from unistep.evaluation.progress import line
from unistep.evaluation.reference import Examples
from unistep.modalities.feature_roles import FeatureRoles

if TYPE_CHECKING:
    from rich.progress import Progress


def feature_roles(data: Examples) -> FeatureRoles:
    """The feature networks of some data by role: those of its source where it has some, else those of its modality."""
    prefix = str(getattr(data, "source", "")).partition(":")[0]
    if prefix in registry.names("source"):
        return registry.lookup("source", prefix).feature_roles(data.modality)
    return data.modality.feature_roles()


def selection_features(data: Examples) -> FeatureNetwork:
    """The network by which models of some data are chosen: for searches, early stopping, averages; not for reports."""
    return load_features(feature_roles(data).selection, data.modality, data=data)


def load_networks(
    specs: Sequence[FeatureNetwork | str],
    data: Examples,
    *,
    bar: Progress | None = None,
    device: torch.device | str | None = None,
) -> tuple[FeatureNetwork, ...]:
    """Feature networks for an evaluation; one that learns from the data has a line in the display.

    Of two different ones with one name, such as two sizes of DINOv2, the second has its hash in its name.

    Args:
        specs: Networks, which are taken as they are, or names, as :func:`load_features` takes them.
        data: The real items.
        bar: Where to show how far a network has learned.
        device: Where those that are named compute.

    Raises:
        ValueError: If there is none, one is named twice, one cannot be loaded, or one does not take the data's shape.
    """
    networks = [spec if isinstance(spec, FeatureNetwork) else _loaded(spec, data, bar).to(device) for spec in specs]
    if not networks:
        raise ValueError("an evaluation needs at least one feature network, such as 'random-convolutions'")
    for i, network in enumerate(networks):
        network.check_shape(data.modality.shape)
        if network.hash in {other.hash for other in networks[:i]}:
            raise ValueError(f"feature network {network.name!r} is named twice; name it once")
        if network.name in {other.name for other in networks[:i]}:  # a report has the figures of each under its name
            networks[i] = network.renamed(f"{network.name}-{network.hash[:8]}")
    return tuple(networks)


def _loaded(spec: str, data: Examples, bar: Progress | None) -> FeatureNetwork:
    name = spec.partition(":")[0]
    loader = registry.lookup("features", name) if name in registry.names("features") else None
    work = loader.work(data) if isinstance(loader, LearnedLoader) else 0
    if not work:
        return load_features(spec, data.modality, data=data)
    with line(bar, f"{name} learns", work, f"{data.modality.noun}s") as advance:
        return load_features(spec, data.modality, data=data, progress=advance)
