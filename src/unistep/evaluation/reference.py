"""Statistics of the real data, computed once for each pair of data and feature network and kept on disk."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unistep.data.cache import cache_root
from unistep.evaluation.features import FeatureNetwork, load_features
from unistep.evaluation.metrics import Moments, frechet_distance
from unistep.files import replacing
from unistep.modalities.audio_reading import FULL

Progress = Callable[[int], None]
"""Called with the number of items that were just finished."""

_LAYOUT = "unistep-statistics-1"
_SUBSET = 10_000
_SUBSET_SEED = 0
_log = logging.getLogger(__name__)


class Examples(Protocol):
    """What this file needs of a data set."""

    @property
    def values(self) -> np.ndarray:
        """Pictures as bytes ``[n, c, h, w]``, or sounds as int16 ``[n, c, samples]``, usually memory-mapped."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the source and of how it was prepared."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class ReferenceStatistics:
    """What a data set looks like to a feature network."""

    moments: Moments
    """Mean and covariance over all items."""
    subset: Float[Tensor, "m dim"]
    """Features of a fixed random subset in random order, for KID and the neighbour figures."""
    fingerprint: str
    """Fingerprint of the data."""
    features: str
    """Hash of the feature network."""


def to_float(values: np.ndarray | Tensor) -> Float[Tensor, "b *shape"]:
    """Pictures or sounds in [-1, 1]: bytes and 16-bit samples are scaled, floats are taken as they are and clamped.

    Raises:
        ValueError: If they are neither pictures, bytes or floats of four dimensions, nor sounds of one or two channels.
    """
    x = torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values.detach()
    sounds = x.ndim == 3 and x.shape[1] <= 2
    if x.ndim != 4 and not sounds:
        raise ValueError(
            f"images must have shape [n, c, h, w], and sounds [n, c, samples] with 1 or 2 channels, got {list(x.shape)}"
        )
    if x.dtype == (torch.int16 if sounds else torch.uint8):
        return x.float() / FULL if sounds else x.float() / 127.5 - 1
    if not x.is_floating_point():
        wanted = "sounds must be int16" if sounds else "images must be bytes in 0 to 255"
        raise ValueError(f"{wanted} or floats in -1 to 1, got {x.dtype}")
    return x.float().clamp(-1, 1)


def quantise(x: Float[Tensor, "b *shape"]) -> Float[Tensor, "b *shape"]:
    """Round values in [-1, 1] to the levels that real ones have: 256 of a saved picture, 16 bits of a saved sound."""
    if x.ndim == 3:
        return (x.clamp(-1, 1) * FULL).round().clamp(max=FULL - 1) / FULL
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def extract(
    network: FeatureNetwork, batches: Iterable[np.ndarray | Tensor], *, progress: Progress | None = None
) -> Iterator[Float[Tensor, "b dim"]]:
    """Features of each batch in turn, float32 on the CPU; images are dropped as soon as they were looked at."""
    weights = itertools.chain(network.parameters(), network.buffers())
    device = next((weight.device for weight in weights), torch.device("cpu"))
    for batch in batches:
        features = network(to_float(batch).to(device)).cpu()
        if progress:
            progress(len(features))
        yield features


def noun(values: np.ndarray) -> str:
    """What they are, in the plural."""
    return "images" if values.ndim == 4 else "sounds"


def batches_of(images: np.ndarray | Tensor, batch_size: int = 250) -> Iterator[np.ndarray | Tensor]:
    """Consecutive slices of an array."""
    for i in range(0, len(images), batch_size):
        yield images[i : i + batch_size]


def reference_path(data: Examples, network: FeatureNetwork) -> Path:
    """Where the statistics of this pair are kept."""
    key = hashlib.sha256(f"{_LAYOUT}\n{data.fingerprint}\n{network.hash}".encode()).hexdigest()
    return cache_root(None) / "statistics" / f"{key[:32]}.safetensors"


def reference_statistics(
    data: Examples, network: FeatureNetwork, *, progress: Progress | None = None, use_cache: bool = True
) -> ReferenceStatistics:
    """Statistics of ``data`` under ``network``, from the cache where they are there and sound, else computed and kept.

    Args:
        data: The real images.
        network: The feature network.
        progress: ConditionValue how many images were just looked at; only called where something is computed.
        use_cache: Whether to read and write the cache.
    """
    path = reference_path(data, network)
    if use_cache:
        found = read_statistics(path, data.fingerprint, network)
        if found is not None:
            return found
    statistics = _compute(data, network, progress)
    if use_cache:
        try:
            write_statistics(path, statistics)
        except (OSError, ValueError) as error:  # costs time at the next start, and not the result
            _log.warning("reference statistics were not kept: %s", error)
    return statistics


def _compute(data: Examples, network: FeatureNetwork, progress: Progress | None) -> ReferenceStatistics:
    count = len(data.values)
    if count < 2:
        raise ValueError(f"the reference needs at least 2 {noun(data.values)}, got {count}")
    moments = Moments(network.dim)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(_SUBSET_SEED))[:_SUBSET]
    place = torch.full((count,), -1).scatter_(0, chosen, torch.arange(len(chosen)))
    subset = torch.empty(len(chosen), network.dim)
    start = 0
    for features in extract(network, batches_of(data.values), progress=progress):
        moments.update(features)
        rows = place[start : start + len(features)]
        subset[rows[rows >= 0]] = features[rows >= 0]
        start += len(features)
    return ReferenceStatistics(moments=moments, subset=subset, fingerprint=data.fingerprint, features=network.hash)


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_statistics(path: Path, statistics: ReferenceStatistics) -> None:
    """Write statistics so that a reader sees all of them or none.

    Raises:
        ValueError: If the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {
        "mean": statistics.moments.mean,
        "covariance": statistics.moments.covariance,
        "count": torch.tensor(statistics.moments.count),
        "subset": statistics.subset,
    }
    metadata = {
        "layout": _LAYOUT,
        "fingerprint": statistics.fingerprint,
        "features": statistics.features,
        "checksum": _checksum(tensors),
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def read_statistics(path: Path, fingerprint: str, network: FeatureNetwork) -> ReferenceStatistics | None:
    """Statistics from a file, or nothing where it is missing, damaged, or about something else."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError):
        return None
    expected = {"layout": _LAYOUT, "fingerprint": fingerprint, "features": network.hash}
    if any(metadata.get(key) != value for key, value in expected.items()):
        return None
    if metadata.get("checksum") != _checksum(tensors):
        return None
    moments = Moments.known(tensors["mean"], tensors["covariance"], int(tensors["count"]))
    return ReferenceStatistics(
        moments=moments, subset=tensors["subset"], fingerprint=fingerprint, features=network.hash
    )


def quick_fd(
    images: np.ndarray | Tensor,
    data: str = "fashion-mnist",
    *,
    split: str = "train",
    features: str = "fashion",
    device: torch.device | str = "cpu",
) -> float:
    """Fréchet distance between images and a named data set in one call, for experiments.

    Args:
        images: Bytes, or floats in [-1, 1], of shape ``[n, c, h, w]``; floats are rounded to 256 levels.
        data: A source of :mod:`unistep.data`.
        split: The split to compare with.
        features: A feature network, as :func:`load_features` takes it.
        device: Where that network works.
    """
    from unistep.data import DataConfig, prepare

    network = load_features(features, shape=tuple(images.shape[1:])).to(device)
    statistics = reference_statistics(prepare(DataConfig(source=data, split=split)), network)
    moments = Moments(network.dim)
    for found in extract(network, (quantise(to_float(batch)) for batch in batches_of(images))):
        moments.update(found)
    return frechet_distance(statistics.moments, moments)
