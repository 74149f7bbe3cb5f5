"""From a configuration and its data to the modules that are trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from unistep.codecs.base import UnfitShapeError
from unistep.core.condition import GUIDANCE, ScalarField, asked
from unistep.core.flowmap import Map
from unistep.core.seeding import derived_seed
from unistep.data import Dataset
from unistep.generation.generator import Generator
from unistep.generation.model_config import KINDS, ModelConfig
from unistep.hub.load import load, load_config
from unistep.objectives.base import Objective, ObjectiveConfig
from unistep.objectives.materials import Materials
from unistep.precision import resolve_precision, set_memory_layout
from unistep.serialization import to_plain
from unistep.training.lora import adapt
from unistep.training.materials import RunMaterials
from unistep.training.parallel import World
from unistep.training.run_config import RunConfig

_LOOKED_AT = 256  # signals that the scale of the codec is taken from
_AT_ONCE = 8  # of them, as they may be long


def fit_model_to_data(model: ModelConfig, dataset: Dataset) -> ModelConfig:
    """The model with the signal shape and the conditions of the data, and a codec of that shape and its scale.

    Raises:
        ValueError: If the network cannot take signals of that size, or the model makes another kind of signal.
    """
    modality = dataset.modality
    if type(modality) is not type(model.modality):
        ours, theirs = model.modality.noun, modality.noun
        raise ValueError(f"this recipe is for {ours}s, and {dataset.source} has {theirs}s; use one for {theirs}s")
    try:
        network = model.network
        codec = model.codec.fitted(modality.shape, dims=network.dims, multiples=network.multiples)
    except UnfitShapeError as error:
        option = modality.shape_option(error.nearest)
        raise ValueError(f"{error}; use {option}" if option else str(error)) from None
    if model.context is not None:
        codec.check_rollout(modality.shape, model.context.rollout)
    try:
        codec = codec.calibrated(_some_signals(dataset), model.sigma_data)
    except ValueError as error:
        raise ValueError(f"{dataset.source} cannot be learned: {error}") from None
    # A guidance weight is no matter of the data: a model that takes one keeps it.
    guidance = {name: field for name, field in model.fields.items() if name == GUIDANCE}
    return replace(model, modality=modality, codec=codec, fields={**dataset.fields, **guidance}).fitted()


def _some_signals(dataset: Dataset) -> Iterator[Tensor]:
    """Signals spread over the data, some at once, for statistics."""
    count = min(len(dataset), _LOOKED_AT)
    chosen = [i * len(dataset) // count for i in range(count)]
    for start in range(0, count, _AT_ONCE):
        yield dataset.modality.to_signal(dataset.batch(chosen[start : start + _AT_ONCE])[0])


def fit_model_to_objective(model: ModelConfig, objective: ObjectiveConfig) -> ModelConfig:
    """The model with the conditions of the objective beside those of the data.

    Raises:
        ValueError: If there is a guidance weight as a condition, and no other condition that it could strengthen.
    """
    fields = objective.conditions()
    if GUIDANCE in fields and not asked(model.fields):
        raise ValueError("guidance_range strengthens a condition, and this data has none (no classes); leave it out")
    own = model.fields.get(GUIDANCE)
    if objective.continues and own is not None and GUIDANCE in fields and own.extent == fields[GUIDANCE].extent:
        fields = {**fields, GUIDANCE: own}  # with the default weight that the model has
    return replace(model, fields={**model.fields, **fields}).fitted()


def fit_sampling_to_objective(model: ModelConfig, objective: ObjectiveConfig) -> ModelConfig:
    """The model with the sampling times that the objective trains, where it trains only some or some above others, and
    with all noise drawn afresh between jumps where it trains only those to the data.
    """
    grid = objective.grid(model.path, model.sigma_data)
    if grid:
        model = replace(model, steps=len(grid), times={str(len(grid)): grid})
    if objective.gamma is not None:
        model = replace(model, gamma=objective.gamma)
    best = {str(steps): times for steps, times in objective.best_times(model.path).items()}
    trained = (len(grid),) if grid else objective.trained_steps
    if objective.continues:  # with what the model knows already, one step among it
        trained = tuple(sorted({1, *map(int, best), *model.trained_steps})) if model.trained_steps else ()
    return replace(
        model,
        times={**model.times, **best},
        trained_steps=trained,
        sigma_min_trained=objective.sigma_min_trained,
    )


def keep_conditions(model: ModelConfig, init: str | None, teacher: str | None) -> ModelConfig:
    """The model whose network has the conditions of its first weights that this data lacks; they stay null.

    Of a teacher only those are kept that it was itself never given, such as the texts of a base that it began from.

    Args:
        model: What is to be trained.
        init: Whose weights it begins with, where that is not the teacher.
        teacher: The name of the teacher.
    """
    network = model.network
    if init is not None:
        start = load_config(init)
        network = network.keeping(start.network)
        if start.kind == model.kind != "denoiser" and start.modality == model.modality:
            # What is null unless it is given, such as a text, can still be given, and so can a guidance weight.
            kept = {name: spec for name, spec in start.fields.items() if not spec.drawn or name == GUIDANCE}
            model = replace(model, fields={**{n: s for n, s in kept.items() if n not in model.fields}, **model.fields})
    if teacher is not None:
        known = load_config(teacher)
        network = network.keeping(known.network, besides=known.fields)
    return replace(model, network=network)


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
    theirs = found.config.network
    different = model.network.differences(model.network.renumbered(theirs) if role == "init" else theirs)
    if different:
        raise ValueError(f"the {role} {name!r} does not fit this data and network: it has {', '.join(different)}")
    if found.config.sigma_data != model.sigma_data:
        raise ValueError(
            f"the {role} {name!r} knows data of standard deviation {found.config.sigma_data:g}, and this model is to "
            f"have {model.sigma_data:g}; give it the same with --model.sigma-data"
        )
    return found


def trained_weight(config: RunConfig) -> ScalarField | None:
    """The guidance weight that a model takes and that its objective does not draw, but its data is to have."""
    field = config.model.fields.get(GUIDANCE)
    own = config.objective.continues or GUIDANCE in config.objective.conditions()
    return field if isinstance(field, ScalarField) and not own else None


def fit_model_to_start(model: ModelConfig, start: Generator | None, teacher: Generator | None) -> ModelConfig:
    """The model with a codec that gives values like those that its first weights and its teacher know.

    Args:
        model: What is to be trained.
        start: Whose weights it begins with, where that is not the teacher.
        teacher: What is asked in training.

    Raises:
        ValueError: If start and teacher know different codecs, so that no data fits both.
    """
    known = [found for found in (start, teacher) if found is not None]
    if not known:
        return model
    codecs = [model.codec.aligned(found.config.codec) for found in known]
    if codecs[0] != codecs[-1]:
        one, other = (to_plain(codec) for codec in codecs)
        apart = [f"{key} {one[key]} and {other[key]}" for key in one if one[key] != other[key]]
        raise ValueError(f"init and teacher know signals by other codecs ({', '.join(apart)}); use two of one family")
    return replace(model, codec=codecs[0])


def require_start(config: RunConfig) -> None:
    """Check that a run that goes on with a trained model was given one.

    Raises:
        ValueError: If it was not.
    """
    if config.objective.continues and config.init is None:
        raise ValueError(f"{config.recipe} goes on with a trained model; name it, such as --init fashion")
    if config.rehearsal and config.init is None:
        raise ValueError(
            f"rehearsal {config.rehearsal:g} is of a trained model's data; name that model, such as --init fashion"
        )


def continued(config: RunConfig) -> RunConfig:
    """The run with the model that it goes on with, where its objective does: kind, network, codec, path, guidance.

    A kind that the objective does not train, such as a denoiser, becomes the one that it does.

    Raises:
        ValueError: If no model to start from is named, or there is none of that name.
    """
    require_start(config)
    if not config.objective.continues or config.init is None:
        return config
    found, objective = load_config(config.init), config.objective
    kept = issubclass(KINDS[found.kind], (objective.trains, *objective.also_trains))
    kind = found.kind if kept else next(kind for kind, made in KINDS.items() if made is objective.trains)
    guidance = {name: field for name, field in found.fields.items() if name == GUIDANCE}
    times = found.times if kept else {}  # found for these jumps, which change little
    changes = {"kind": kind, "times": times, "steps": 1, "sigma_min_trained": 0.0, "provenance": {}, "fields": guidance}
    return replace(config, model=replace(found, **changes))


def build_student(config: RunConfig, model: ModelConfig, start: Generator | None) -> Map:
    """The map to train, with the weights of ``start`` where there is one.

    What ``start`` does not have, such as a second time or a condition, begins without effect.
    """
    torch.manual_seed(derived_seed(config.seed, "weights"))
    student = model.build()
    if start is None:
        return student
    model.network.start_from(student.net, start.map.net.state_dict(), start.config.network)
    adapt(student.net, model.adapter, start)
    return student


def build_objective(
    config: RunConfig, student: Map, teacher: Generator | None, materials: Materials | None = None
) -> Objective:
    """The training signal around the student.

    Args:
        config: The run.
        student: The map to train.
        teacher: Its teacher, where it has one.
        materials: What the run can give beside them; without, what needs no data.

    Raises:
        ValueError: If the objective needs another kind of model, or a teacher that is missing.
    """
    materials = RunMaterials(config) if materials is None else materials
    if not isinstance(student, (config.objective.trains, *config.objective.also_trains)):
        kind = next(name for name, made in KINDS.items() if made is config.objective.trains)
        raise ValueError(f"{type(config.objective).__name__} trains a model of kind {kind!r}")
    if config.objective.two_times and not config.model.network.takes_second_time:
        raise ValueError(
            f"{type(config.objective).__name__} needs a network that takes the time at which a jump ends; "
            "set --model.network.second-time"
        )
    if teacher is None:
        return config.objective.build_in_run(student, None, materials)
    wanted = config.objective.teacher_kind
    if not isinstance(teacher.map, wanted):
        kind = next(name for name, made in KINDS.items() if made is wanted)
        raise ValueError(f"the teacher {config.teacher!r} must be a model of kind {kind!r}, not {teacher.kind!r}")
    return config.objective.build_in_run(student, copy.deepcopy(teacher.map), materials)  # type: ignore[arg-type]


def place(objective: nn.Module, config: RunConfig, world: World) -> None:
    """Move to the device, in the memory layout that it is fastest with; FSDP2 shards the plain layout only."""
    objective.to(world.device)
    sharded = world.size > 1 and config.parallel == "fsdp"
    if not sharded:
        set_memory_layout(objective, resolve_precision(config.precision, world.device), world.device)
