"""Warnings before the first step about choices that do not go together."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import jvp

from unistep.core.condition import LabelField
from unistep.data import Dataset
from unistep.generation.generator import Generator
from unistep.generation.model_config import ModelConfig
from unistep.training.run_config import RunConfig

FEW = 20
"""Items that a folder should have: with fewer, a network of a million parameters repeats them."""
STEEP = 20.0
"""Rate of the embedding of time from which on methods that differentiate in time are warned of. Our networks have 5
before training and less than 3 after it; Fourier features of scale 16, with which continuous-time training was unstable
(Lu & Song 2024, arXiv 2410.11081, section 4.1), have 100."""


def time_embedding_slope(net: nn.Module) -> float:
    r"""The largest relative rate of the embedding of time, :math:`\lVert\dot e\rVert/\lVert e\rVert`.

    It is taken with respect to :math:`c_\mathrm{noise} = \frac14\ln\eta` at noise to signal ratios from 0.01 to 80, by
    forward differentiation. The output of a fresh network cannot serve, as its last layer is zero.

    Args:
        net: A network with a method ``embed_time(c_noise [b]) -> [b, features]``; for others the slope is 0.
    """
    embed = getattr(net, "embed_time", None)
    if embed is None:
        return 0.0
    parameter = next(net.parameters())
    codes = torch.logspace(-2, 1.9, 16, dtype=torch.float64).log() / 4
    codes = codes.to(parameter.device, torch.promote_types(parameter.dtype, torch.float32))
    with torch.no_grad():
        value, rate = jvp(embed, (codes,), (torch.ones_like(codes),))[:2]
    return float((rate.norm(dim=1) / value.norm(dim=1).clamp(min=1e-12)).max())


def network_warnings(config: RunConfig, rate: float) -> list[str]:
    """What is wrong with the network for this method.

    Args:
        config: The run, with its number of steps.
        rate: The :func:`time_embedding_slope` of its network.
    """
    name, found = type(config.objective).__name__.removesuffix("Config"), list[str]()
    if config.objective.follows_tangent and rate > STEEP:
        found.append(
            f"{name} differentiates the network in time, and its embedding of time is steep: its rate is {rate:.0f}, "
            f"and above {STEEP:.0f} training may diverge (Lu & Song 2024, section 4.1); "
            f"{config.model.network.advice('steep time embedding')}"
        )
    assert config.max_steps is not None
    advice, most = config.model.network.advice("unbounded time derivative"), config.objective.most_plain_steps
    if most is not None and advice and config.max_steps > most:
        found.append(
            f"{name} without double normalisation may diverge in a run of {config.max_steps:,} steps (Lu & Song "
            f"2024, section 4.1); {advice}, or watch scm/tangent"
        )
    return found


def start_warnings(model: ModelConfig, known: Generator | None, role: str) -> list[str]:
    """What a model whose network fits learned of other data: its classes, its sampling rate.

    Args:
        model: What is to be trained.
        known: The teacher, or where the weights come from.
        role: Which of the two, for the message.
    """
    if known is None:
        return []
    found = []
    for name, spec in model.fields.items():
        theirs = known.config.fields.get(name)
        if isinstance(spec, LabelField) and isinstance(theirs, LabelField) and theirs.table != spec.table:
            found.append(
                f"the {role} {known.name!r} has the condition {name} with {_shortened(theirs.table)}, and this "
                f"data has {_shortened(spec.table)}"
            )
    if model.modality != known.modality:
        found.append(
            f"the {role} {known.name!r} makes {known.modality.noun}s of {known.modality.described}, and this data has "
            f"{model.modality.described}"
        )
    return found


def data_warnings(data: Dataset) -> list[str]:
    """What the data has too little of for anything new: items, or items of a class."""
    noun, found = data.modality.noun, list[str]()
    if len(data) < FEW:
        items = f"{len(data)} {noun}s are" if len(data) > 1 else f"1 {noun} is"
        found.append(f"{items} few: samples will repeat the data; {FEW} or more are a start")
    alone = [name for name, count in data.summary.classes if count == 1]
    if alone and len(data) >= FEW:
        named = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
        which = (
            f"the class {named} has 1 {noun}" if len(alone) == 1 else f"{len(alone)} classes ({named}) have 1 {noun}"
        )
        found.append(f"{which}, which samples of it will repeat")
    return found


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
