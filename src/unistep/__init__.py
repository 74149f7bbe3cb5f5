"""Unistep: generative models that go from noise to data in one step.

The names of a notebook, from paths to trained models. Each is imported when it is first used, so that
``import unistep`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.core.action_fields import ActionField
    from unistep.core.condition import as_condition
    from unistep.core.fields import LabelField, ScalarField
    from unistep.core.flowmap import ConsistencyModel, Denoiser, FlowMap, GuidedDenoiser, Map
    from unistep.core.path import LinearFlow, Path, TrigFlow, VarianceExploding, VariancePreserving, match_snr
    from unistep.core.sampling import sample_gamma, sample_multistep, sample_one_step
    from unistep.core.signal_fields import SignalField, TokensField
    from unistep.core.solvers import sample_ode
    from unistep.core.text_fields import TextField
    from unistep.core.time_search import search_times
    from unistep.core.timesteps import karras_grid
    from unistep.core.values import Action, Label, Scalar, Signal, Tokens, Value, Vector
    from unistep.core.vector_fields import VectorField
    from unistep.data import DataConfig, Dataset, Loader, data_config, prepare
    from unistep.evaluation import evaluate, load_features, quick_fd
    from unistep.generation.generator import Generator
    from unistep.generation.model_config import ModelConfig
    from unistep.generation.requests import Request
    from unistep.hub import load, models, save
    from unistep.modalities import AudioModality, ImageModality, TensorModality
    from unistep.nets.config import NetworkConfig
    from unistep.nets.dit import DiT, DiTConfig
    from unistep.nets.unet import UNet, UNetConfig
    from unistep.objectives.base import Loss, Objective, ObjectiveConfig
    from unistep.recipes import recipe
    from unistep.recipes.cite import citation
    from unistep.registry import register
    from unistep.training.autoencoder import train_autoencoder
    from unistep.training.run import train
    from unistep.training.run_config import RunConfig
    from unistep.training.trainer import Trainer

__version__ = "0.1.0"

_HOMES = {
    # paths
    "LinearFlow": "core.path",
    "Path": "core.path",
    "TrigFlow": "core.path",
    "VarianceExploding": "core.path",
    "VariancePreserving": "core.path",
    "match_snr": "core.path",
    # maps
    "ConsistencyModel": "core.flowmap",
    "Denoiser": "core.flowmap",
    "FlowMap": "core.flowmap",
    "GuidedDenoiser": "core.flowmap",
    "Map": "core.flowmap",
    # samplers
    "karras_grid": "core.timesteps",
    "sample_gamma": "core.sampling",
    "sample_multistep": "core.sampling",
    "sample_ode": "core.solvers",
    "sample_one_step": "core.sampling",
    "search_times": "core.time_search",
    # conditions
    "Label": "core.values",
    "LabelField": "core.fields",
    "Scalar": "core.values",
    "ScalarField": "core.fields",
    "Signal": "core.values",
    "SignalField": "core.signal_fields",
    "Tokens": "core.values",
    "TextField": "core.text_fields",
    "TokensField": "core.signal_fields",
    "Action": "core.values",
    "ActionField": "core.action_fields",
    "Value": "core.values",
    "Vector": "core.values",
    "VectorField": "core.vector_fields",
    "as_condition": "core.condition",
    # networks, objectives, signals
    "AudioModality": "modalities",
    "DiT": "nets.dit",
    "DiTConfig": "nets.dit",
    "ImageModality": "modalities",
    "Loss": "objectives.base",
    "NetworkConfig": "nets.config",
    "Objective": "objectives.base",
    "ObjectiveConfig": "objectives.base",
    "TensorModality": "modalities",
    "UNet": "nets.unet",
    "UNetConfig": "nets.unet",
    # data
    "DataConfig": "data",
    "Dataset": "data",
    "Loader": "data",
    "data_config": "data",
    "prepare": "data",
    # training, models, evaluation
    "Generator": "generation.generator",
    "ModelConfig": "generation.model_config",
    "Request": "generation.requests",
    "RunConfig": "training.run_config",
    "Trainer": "training.trainer",
    "citation": "recipes.cite",
    "evaluate": "evaluation",
    "load": "hub",
    "load_features": "evaluation",
    "models": "hub",
    "quick_fd": "evaluation",
    "recipe": "recipes",
    "register": "registry",
    "save": "hub",
    "train": "training.run",
    "train_autoencoder": "training.autoencoder",
}
"""Where each name is defined: a module, and the name there if it is another."""
_ROOMS = (
    "augmentation",
    "backends",
    "codecs",
    "core",
    "data",
    "evaluation",
    "generation",
    "hub",
    "modalities",
    "nets",
    "objectives",
    "provenance",
    "recipes",
    "registry",
    "training",
)

__all__ = [
    "Action",
    "ActionField",  # a test compares it with the table above
    "AudioModality",
    "ConsistencyModel",
    "DataConfig",
    "Dataset",
    "Denoiser",
    "DiT",
    "DiTConfig",
    "FlowMap",
    "Generator",
    "GuidedDenoiser",
    "ImageModality",
    "Label",
    "LabelField",
    "LinearFlow",
    "Loader",
    "Loss",
    "Map",
    "ModelConfig",
    "NetworkConfig",
    "Objective",
    "ObjectiveConfig",
    "Path",
    "Request",
    "RunConfig",
    "Scalar",
    "ScalarField",
    "Signal",
    "SignalField",
    "TensorModality",
    "TextField",
    "Tokens",
    "TokensField",
    "Trainer",
    "TrigFlow",
    "UNet",
    "UNetConfig",
    "Value",
    "VarianceExploding",
    "VariancePreserving",
    "Vector",
    "VectorField",
    "__version__",
    "as_condition",
    "citation",
    "data_config",
    "evaluate",
    "karras_grid",
    "load",
    "load_features",
    "match_snr",
    "models",
    "prepare",
    "quick_fd",
    "recipe",
    "register",
    "sample_gamma",
    "sample_multistep",
    "sample_ode",
    "sample_one_step",
    "save",
    "search_times",
    "train",
    "train_autoencoder",
]


def __getattr__(name: str) -> object:
    if name in _ROOMS:  # `unistep.recipes.recipes()` works without an import of its own
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
