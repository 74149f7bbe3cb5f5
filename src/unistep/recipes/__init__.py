"""Complete configurations by name: functions whose docstrings state data, needs, paper and expected result."""

from __future__ import annotations

from collections.abc import Callable

from unistep.recipes import fashion
from unistep.training.config import RunConfig

Recipe = Callable[[], RunConfig]


def recipes() -> dict[str, Recipe]:
    """All recipes by name, in the order of the documentation."""
    return {
        "fashion-teacher": fashion.fashion_teacher,
        "fashion-ect": fashion.fashion_ect,
        "fashion-cd": fashion.fashion_cd,
        "fashion-ct": fashion.fashion_ct,
    }
