"""Which kind of signal a method meets in the data that it is given."""

from __future__ import annotations

from typing import Any

from unistep import registry
from unistep.data import DataConfig


def modality_of(data: DataConfig) -> Any:
    """The modality of the data, with a usual shape; the real one is filled in once the data is prepared.

    Raises:
        ValueError: If the source is unknown or not there.
    """
    from unistep.data.cache import cache_root
    from unistep.data.sources.opening import open_source

    source = open_source(data, cache_root(None) / "downloads")
    return registry.lookup("modality", source.modality_of(data)).usual()
