"""Statistics of the real data, computed once for each pair of data and feature network and kept on disk."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unistep.data.cache import cache_root
from unistep.evaluation.features import FeatureNetwork
from unistep.evaluation.metrics import Moments
from unistep.evaluation.progress import display, line
from unistep.files import replacing

if TYPE_CHECKING:
    from rich.console import Console

    from unistep.modalities.base import Modality

Progress = Callable[[int], None]
"""Called with the number of items that were just finished."""

_LAYOUT = "unistep-statistics-1"
_SUBSET = 10_000
_SUBSET_SEED = 0
_BATCH = 250
_LARGEST = 2**26  # values of a batch of signals, 256 MB: of large clips and pictures there are fewer in one
_VALUES = 2**18  # of signals that go through a network at once on a CPU
_log = logging.getLogger(__name__)


class Examples(Protocol):
    """What an evaluation needs of a data set; every :class:`unistep.data.Dataset` has it."""

    @property
    def modality(self) -> Modality:
        """What the items are."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the items."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Any]:
        """Stored signals of some items ``[b, *shape]``, and their conditions."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class ReferenceStatistics:
    """What a data set looks like to a feature network."""

    moments: Moments
    """Mean and covariance over all items."""
    subset: Float[Tensor, "m dim"]
    """Features of a fixed random subset in random order, for KID and the neighbour metrics."""
    fingerprint: str
    """Fingerprint of the data."""
    features: str
    """Hash of the feature network."""


def signals(data: Examples, indices: Sequence[int]) -> Float[Tensor, "b *shape"]:
    """Some items of a data set as signals in [-1, 1]."""
    return data.modality.to_signal(data.batch(indices)[0])


def batches(data: Examples, indices: Sequence[int] | None = None) -> Iterator[Float[Tensor, "b *shape"]]:
    """All items of a data set, or those of ``indices``, as signals in [-1, 1], batch by batch."""
    chosen: Sequence[int] = range(len(data)) if indices is None else indices
    size = max(1, min(_BATCH, _LARGEST // math.prod(data.modality.shape)))
    for start in range(0, len(chosen), size):
        yield signals(data, chosen[start : start + size])


def extract(
    network: FeatureNetwork, batches: Iterable[Float[Tensor, "b *shape"]], *, progress: Progress | None = None
) -> Iterator[Float[Tensor, "b dim"]]:
    """Features of each batch of signals in turn, float32 on the CPU; signals are dropped once they were used."""
    weights = itertools.chain(network.parameters(), network.buffers())
    device = next((weight.device for weight in weights), torch.device("cpu"))
    for batch in batches:
        # What a processor computes at once should fit its memory's pages that are there already: of clips, few.
        most = max(1, _VALUES // max(1, batch[:1].numel())) if device.type == "cpu" else len(batch)
        features = torch.cat([network(part.to(device)).cpu() for part in batch.split(max(1, most))])
        if progress:
            progress(len(features))
        yield features


def reference_path(data: Examples, network: FeatureNetwork) -> Path:
    """Where the statistics of this pair are kept."""
    key = hashlib.sha256(f"{_LAYOUT}\n{data.fingerprint}\n{network.hash}".encode()).hexdigest()
    return cache_root(None) / "statistics" / f"{key[:32]}.safetensors"


def reference_statistics(
    data: Examples, network: FeatureNetwork, *, progress: Progress | None = None, use_cache: bool = True
) -> ReferenceStatistics:
    """Statistics of ``data`` under ``network``, read from the cache where they are whole, else computed and kept.

    Args:
        data: The real items.
        network: The feature network.
        progress: Called with the number of items that were just finished; only where something is computed.
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


def shown_statistics(data: Examples, network: FeatureNetwork, *, console: Console | None = None) -> ReferenceStatistics:
    """:func:`reference_statistics` with a bar on a terminal, as a slow network takes minutes for a large data set."""
    computed = not reference_path(data, network).is_file()
    noun = f"{data.modality.noun}s"
    with display(computed, console) as bar, line(bar, f"data on {network.name}", len(data), noun) as advance:
        return reference_statistics(data, network, progress=advance)


def subset_indices(count: int) -> Int[Tensor, " m"]:
    """Which of ``count`` items the rows of :attr:`ReferenceStatistics.subset` are of."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(_SUBSET_SEED))[:_SUBSET]


def _compute(data: Examples, network: FeatureNetwork, progress: Progress | None) -> ReferenceStatistics:
    count = len(data)
    if count < 2:
        raise ValueError(f"the reference needs at least 2 {data.modality.noun}s, got {count}")
    moments = Moments(network.dim)
    chosen = subset_indices(count)
    position = torch.full((count,), -1).scatter_(0, chosen, torch.arange(len(chosen)))
    subset = torch.empty(len(chosen), network.dim)
    start = 0
    for features in extract(network, batches(data), progress=progress):
        moments.update(features)
        rows = position[start : start + len(features)]
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
