"""A data set that changes one thing about another and passes on the rest."""

from __future__ import annotations

from collections.abc import Mapping

from unistep.core.condition import AnyField
from unistep.data.dataset import Dataset
from unistep.modalities.base import Modality


class LayeredDataset(Dataset):
    """The items of another data set, as many, of the same origin; a subclass says what :meth:`batch` changes.

    Args:
        data: The other one.
    """

    def __init__(self, data: Dataset) -> None:
        self._data = data

    @property
    def modality(self) -> Modality:
        """That of the items."""
        return self._data.modality

    @property
    def fields(self) -> Mapping[str, AnyField]:
        """Those of the items."""
        return self._data.fields

    @property
    def fingerprint(self) -> str:
        """That of the items."""
        return self._data.fingerprint

    @property
    def source(self) -> str:
        """That of the items."""
        return self._data.source

    @property
    def licence(self) -> str:
        """That of the items."""
        return self._data.licence

    def __len__(self) -> int:
        """The items."""
        return len(self._data)
