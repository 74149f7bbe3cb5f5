"""A data set whose items a codec with weights has encoded, once, into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from unistep.codecs.base import Codec
from unistep.core.condition import AnyField, Condition
from unistep.data.arrays import DamagedCacheError
from unistep.data.cache import VALUES, Cached, cache_root, read_cache, remove_unfinished, writing
from unistep.data.dataset import Dataset, Indices, Seeds
from unistep.data.locking import cache_lock
from unistep.data.progress import progress_bar
from unistep.modalities.tensor import TensorModality
from unistep.weights import weights_hash

_AT_ONCE = 32  # items that are encoded together


@final
class EncodedDataset(Dataset):
    """Latents of another data set, with its conditions; what :func:`encode_dataset` returns.

    Args:
        dataset: The other one.
        cached: Its latents, in an opened folder of the cache.
    """

    def __init__(self, dataset: Dataset, cached: Cached) -> None:
        self._dataset, self._latents = dataset, cached.arrays[VALUES]
        self._fingerprint: str = cached.description["fingerprint"]

    @property
    def modality(self) -> TensorModality:
        """Plain tensors: the latents are what a network sees."""
        return TensorModality(shape=tuple(self._latents.shape[1:]))

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """Those of the other data set."""
        return self._dataset.fields

    @property
    def source(self) -> str:
        """That of the other data set."""
        return self._dataset.source

    @property
    def licence(self) -> str:
        """That of the other data set."""
        return self._dataset.licence

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the latents."""
        return self._fingerprint

    @property
    def varies(self) -> bool:
        """Latents are always the same."""
        return False

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, indices: Indices, seeds: Seeds | None = None) -> tuple[Tensor, Condition]:
        rows = np.asarray(indices, dtype=np.int64)
        return torch.from_numpy(self._latents[rows]), self._dataset.conditions(rows, seeds)


def encode_dataset(
    dataset: Dataset, codec: Codec, *, cache_dir: Path | None = None, progress: bool = True
) -> EncodedDataset:
    """The latents of a data set, encoded into the cache unless that was done before with the same weights.

    Args:
        dataset: Items that do not depend on their seeds.
        codec: Encodes their signals, on the device that it is on.
        cache_dir: Root of the cache; ``$UNISTEP_CACHE`` or ``~/.cache/unistep`` by default.
        progress: Whether to show a bar on standard error while encoding.

    Raises:
        ValueError: If items vary with their seeds, so that no one latent stands for an item, or the cache cannot be
            written.
    """
    if dataset.varies:
        raise ValueError(f"items of {dataset.source} vary in training (windows, augment), so latents cannot be cached")
    made_from = f"{dataset.fingerprint}\n{weights_hash(codec.state_dict())}\n{codec.config}"
    key = hashlib.sha256(made_from.encode()).hexdigest()
    path = cache_root(cache_dir) / "latents" / key[:32]
    found = _find(path, key)
    if found is None:
        with cache_lock(path):
            found = _find(path, key)  # another process may have made it in the meantime
            if found is None:
                remove_unfinished(path)
                _encode(dataset, codec, path, key, progress)
                found = _find(path, key)
    if found is None:
        raise ValueError(f"the latents in {path} were damaged as soon as they were written; check that disk")
    return EncodedDataset(dataset, found)


def _find(path: Path, key: str) -> Cached | None:
    try:
        return read_cache(path, key)
    except DamagedCacheError:
        return None


@torch.no_grad()
def _encode(dataset: Dataset, codec: Codec, path: Path, key: str, progress: bool) -> None:
    device = next((tensor.device for tensor in codec.state_dict().values()), torch.device("cpu"))
    with writing(path) as writer, progress_bar(f"latents of {dataset.source}", len(dataset), progress) as advance:
        for start in range(0, len(dataset), _AT_ONCE):
            stored, _ = dataset.batch(range(start, min(start + _AT_ONCE, len(dataset))))
            signal = dataset.modality.to_signal(stored.to(device))
            writer.append(codec.encode(signal).float().cpu().numpy())
            advance(len(stored))
        writer.finish({"key": key}, key)
