"""Unistep: models that go from noise to data in one step.

Names are imported when first used, so that ``import unistep`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.data import DataConfig, Dataset, prepare
    from unistep.evaluation import evaluate, load_features
    from unistep.generation.generator import Generator
    from unistep.generation.model_config import ModelConfig
    from unistep.hub import load, models, save
    from unistep.recipes.cite import citation
    from unistep.training.run_config import RunConfig
    from unistep.training.stages import train_stages as train

__version__ = "0.1.0"

__all__ = [
    "DataConfig",
    "Dataset",
    "Generator",
    "ModelConfig",
    "RunConfig",
    "__version__",
    "citation",
    "evaluate",
    "load",
    "load_features",
    "models",
    "prepare",
    "save",
    "train",
]

_HOMES = {
    "DataConfig": ("unistep.data", "DataConfig"),
    "Dataset": ("unistep.data", "Dataset"),
    "Generator": ("unistep.generation.generator", "Generator"),
    "ModelConfig": ("unistep.generation.model_config", "ModelConfig"),
    "RunConfig": ("unistep.training.run_config", "RunConfig"),
    "citation": ("unistep.recipes.cite", "citation"),
    "evaluate": ("unistep.evaluation", "evaluate"),
    "load": ("unistep.hub", "load"),
    "load_features": ("unistep.evaluation", "load_features"),
    "models": ("unistep.hub", "models"),
    "prepare": ("unistep.data", "prepare"),
    "save": ("unistep.hub", "save"),
    "train": ("unistep.training.stages", "train_stages"),
}
_ROOMS = (
    "codecs",
    "core",
    "data",
    "evaluation",
    "generation",
    "hub",
    "modalities",
    "nets",
    "objectives",
    "recipes",
    "training",
)


def __getattr__(name: str) -> object:
    if name in _ROOMS:  # `unistep.recipes.recipes()` works without an import of its own
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
