"""From a configuration and its data to the modules that are trained."""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unistep.core.condition import GUIDANCE
from unistep.core.flowmap import Map
from unistep.core.seeding import derived_seed
from unistep.data import Dataset
from unistep.generation.generator import Generator
from unistep.generation.model_config import KINDS, AnyModality, ModelConfig
from unistep.hub.load import load
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality
from unistep.nets.config import NetworkConfig
from unistep.nets.discriminator import DiscriminatorConfig
from unistep.objectives.adversarial import AdversarialMethodConfig
from unistep.objectives.base import Objective, ObjectiveConfig
from unistep.precision import resolve_precision, set_memory_layout
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig

_LOOKED_AT = 256  # sounds that the scale of their spectra is taken from
_AT_ONCE = 8  # of them, as they may be long


def fit_model_to_data(model: ModelConfig, dataset: Dataset) -> ModelConfig:
    """The model with the signal shape and the conditions of the data.

    Raises:
        ValueError: If the network cannot take signals of that size, or the model makes another kind of signal.
    """
    modality = _modality(model.modality, dataset, model.network, model.sigma_data)
    return replace(model, modality=modality, fields=dict(dataset.fields)).fitted()


def _modality(modality: AnyModality, dataset: Dataset, network: NetworkConfig, sigma_data: float) -> AnyModality:
    """The model's modality with the shape of the data, which must fit the network."""
    dims, multiple = network.dims, network.multiple
    if isinstance(modality, AudioModality):
        if dataset.sample_rate is None:
            raise ValueError(f"this recipe is for sounds, and {dataset.source} has pictures; use one for pictures")
        channels, samples = dataset.shape
        if dims == 2 and modality.n_fft // 2 % multiple:
            raise ValueError(f"this network needs half of n_fft to be a multiple of {multiple}, got {modality.n_fft}")
        shape = {"sample_rate": dataset.sample_rate, "samples": samples, "channels": channels, "scale": 1.0}
        if modality.chunk:
            shape["chunk"] = _frames_of_chunk(modality, dataset, multiple)
        return _scaled(replace(modality, **shape, dims=dims, multiple=multiple), dataset, sigma_data)
    if dataset.sample_rate is not None:
        raise ValueError(f"this recipe is for pictures, and {dataset.source} has sounds; use one for sounds")
    channels, height, width = dataset.shape
    if height % multiple or width % multiple:
        near = max(multiple, round(height / multiple) * multiple)
        raise ValueError(
            f"images of {height}x{width} do not fit this network, which needs multiples of {multiple}; "
            f"use --data.size {near}"
        )
    return ImageModality(size=height if height == width else (height, width), channels=channels)


def _frames_of_chunk(modality: AudioModality, dataset: Dataset, multiple: int) -> int:
    """Frames of half of a sound, which must be a whole number of them that fits phases and network."""
    samples, rate = dataset.shape[1], dataset.sample_rate or 0
    unit = math.lcm(modality.period, multiple)
    chunk = max(1, round(samples / (2 * modality.hop * unit))) * unit
    if samples != 2 * chunk * modality.hop:
        seconds = 2 * chunk * modality.hop / rate
        raise ValueError(
            f"sounds of {samples} samples are not two chunks of this stream's frames; use --data.seconds {seconds:.10g}"
        )
    return chunk


def _scaled(modality: AudioModality, dataset: Dataset, sigma_data: float) -> AudioModality:
    """The modality with the scale at which spectra of the data have the standard deviation that the model expects."""
    chosen = [i * len(dataset) // _LOOKED_AT for i in range(_LOOKED_AT)] if len(dataset) > _LOOKED_AT else slice(None)
    moments = torch.zeros(3, dtype=torch.float64)
    for part in torch.from_numpy(np.array(dataset.values[chosen])).split(_AT_ONCE):
        x = modality.to_tensor(part).double()
        moments += torch.stack([torch.tensor(float(x.numel()), dtype=x.dtype), x.sum(), x.square().sum()])
    count, total, squares = moments.tolist()
    spread = math.sqrt(max(squares / count - (total / count) ** 2, 0.0))
    if spread == 0:
        what = "second halves of these sounds, which are what comes next," if modality.chunk else "sounds"
        raise ValueError(f"the {what} are silent, so that there is nothing to learn from {dataset.source}")
    return replace(modality, scale=float(f"{sigma_data / spread:.3g}"))


def fit_model_to_objective(model: ModelConfig, objective: ObjectiveConfig) -> ModelConfig:
    """The model with the conditions that the objective tells it beside those of the data.

    Raises:
        ValueError: If there is guidance to be told, and no condition that it could strengthen.
    """
    fields = objective.conditions()
    if GUIDANCE in fields and not model.fields:
        raise ValueError("guidance_range strengthens a condition, and this data has none (no classes); leave it out")
    return replace(model, fields={**model.fields, **fields}).fitted()


def fit_sampling_to_objective(model: ModelConfig, objective: ObjectiveConfig) -> ModelConfig:
    """The model with the sampling times that the objective trains, where it trains only some."""
    grid = objective.grid(model.path, model.sigma_data)
    if grid:
        model = replace(model, steps=len(grid), times={str(len(grid)): grid})
    return replace(model, sigma_min_trained=objective.sigma_min_trained)


def load_fitting(name: str | None, model: ModelConfig, role: str) -> Generator | None:
    """The model of that name, whose network must be that of ``model``; ``None`` for no name.

    Args:
        name: A zoo name, a directory or a hub id.
        model: What is to be trained.
        role: What it serves as, for the message: ``teacher`` or ``init``.

    Raises:
        ValueError: If the networks differ, so that its weights cannot start the student. What the student may have that
            the model lacks (conditions, a second time) is the network's to say.
    """
    if name is None:
        return None
    found = load(name)
    different = model.network.differences(found.config.network)
    if different:
        raise ValueError(f"the {role} {name!r} does not fit this data and network: it has {', '.join(different)}")
    if found.config.sigma_data != model.sigma_data:
        raise ValueError(
            f"the {role} {name!r} knows data of standard deviation {found.config.sigma_data:g}, and this model is to "
            f"have {model.sigma_data:g}; give it the same with --model.sigma-data"
        )
    return found


def fit_model_to_start(model: ModelConfig, start: Generator | None, teacher: Generator | None) -> ModelConfig:
    """The model with spectra as those that its first weights know, where it makes sounds.

    Args:
        model: What is to be trained.
        start: Whose weights it begins with, where that is not the teacher.
        teacher: What is asked in training.

    Raises:
        ValueError: If start and teacher know spectra of different scales, so that no data fits both.
    """
    if not isinstance(model.modality, AudioModality):
        return model
    known = [_spectra(found.modality) for found in (start, teacher) if found is not None]
    if not known:
        return model
    if known[0] != known[-1]:
        apart = [f"{key} {ours} and {known[-1][key]}" for key, ours in known[0].items() if ours != known[-1][key]]
        raise ValueError(f"init and teacher know sounds by other spectra ({', '.join(apart)}); use two of one family")
    return replace(model, modality=replace(model.modality, **known[0]))


def _spectra(modality: AnyModality) -> dict[str, Any]:
    assert isinstance(modality, AudioModality)  # load_fitting has compared the networks
    return {"n_fft": modality.n_fft, "hop": modality.hop, "exponent": modality.exponent, "scale": modality.scale}


def build_student(config: RunConfig, model: ModelConfig, start: Generator | None) -> Map:
    """The map to train, with the weights of ``start`` where there is one.

    What ``start`` does not have, such as a second time or a condition, begins without effect.
    """
    torch.manual_seed(derived_seed(config.seed, "weights"))
    student = model.build()
    if start is None:
        return student
    model.network.start_from(student.net, start.map.net.state_dict(), start.config.network)
    return student


def build_objective(config: RunConfig, student: Map, teacher: Generator | None) -> Objective:
    """The training signal around the student.

    Raises:
        ValueError: If the objective needs another kind of model, or a teacher that is missing.
    """
    if not isinstance(student, config.objective.trains):
        kind = next(name for name, made in KINDS.items() if made is config.objective.trains)
        raise ValueError(f"{type(config.objective).__name__} trains a model of kind {kind!r}")
    if config.objective.two_times and not config.model.network.takes_second_time:
        raise ValueError(
            f"{type(config.objective).__name__} needs a network that takes the time at which a jump ends; "
            "set --model.network.second-time"
        )
    if teacher is None:
        return _around(config, student, None)
    wanted = config.objective.teacher_kind
    if not isinstance(teacher.map, wanted):
        kind = next(name for name, made in KINDS.items() if made is wanted)
        raise ValueError(f"the teacher {config.teacher!r} must be a model of kind {kind!r}, not {teacher.kind!r}")
    return _around(config, student, copy.deepcopy(teacher.map))


def _around(config: RunConfig, student: Map, teacher: Map | None) -> Objective:
    """The objective, with a fresh discriminator where it has an adversarial term."""
    objective = config.objective
    if isinstance(objective, AdversarialMethodConfig) and objective.adversarial.weight > 0:
        torch.manual_seed(derived_seed(config.seed, "discriminator"))
        discriminator = DiscriminatorConfig(widths=objective.adversarial.widths)
        discriminator = discriminator.fitted(config.model.modality.shape, config.model.fields)
        return objective.build(student, teacher, discriminator.build())  # type: ignore[arg-type]
    return objective.build(student, teacher)  # type: ignore[arg-type]


def weights_hash(module: nn.Module | None) -> str:
    """SHA-256 of the weights of a network that is not trained; empty for none."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items() if module is not None else ()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest() if module is not None else ""


def place(objective: nn.Module, config: RunConfig, world: World) -> None:
    """Move to the device, in the memory layout that it is fastest with; FSDP2 shards the plain layout only."""
    objective.to(world.device)
    sharded = world.size > 1 and config.parallel == "fsdp"
    if not sharded:
        set_memory_layout(objective, resolve_precision(config.precision, world.device), world.device)
