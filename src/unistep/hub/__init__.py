"""Models on disk: saving, loading, and finding them by name."""

from unistep.hub.load import find, load, models
from unistep.hub.save import save

__all__ = ["find", "load", "models", "save"]
