"""Low-rank adapters of any network: small differences of its weight matrices, trained in place of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

DOWN, UP = ".lora_down", ".lora_up"
"""How the two factors of a weight are called in a file, after its name."""
_FACTOR = re.compile(r"((?:.+\.)?)parametrizations\.([^.]+)\.0\.(down|up)")
"""How a network calls a factor: its place, the weight's name there, and which of the two."""
_WHOLE = (nn.ParameterDict, nn.ParameterList, parametrize.ParametrizationList)
"""Modules whose entries are no attributes that could be computed."""


@final
class LowRank(nn.Module):
    r"""A weight with a low-rank difference, :math:`W + \frac{\alpha}{r} B A`, which is zero at first.

    A convolution's weight counts as the matrix ``[out, in * kernel]``.

    Args:
        weight: The weight, ``[out, ...]``.
        rank: Rank of the difference, :math:`r`.
        alpha: Its scale, :math:`\alpha`.

    References:
        Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, section 4.1.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = matrix_shape(weight)
        self.down = nn.Parameter(torch.empty(rank, columns, device=weight.device, dtype=weight.dtype))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device, dtype=weight.dtype))
        nn.init.normal_(self.down, std=1 / math.sqrt(columns))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its difference."""
        return adapted(weight, self.down, self.up, self.scale)


def adapted(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """``weight + scale * up @ down``, in the weight's shape.

    Args:
        weight: Shape ``[out, ...]``.
        down: Shape ``[rank, columns]``.
        up: Shape ``[out, rank]``.
        scale: Factor of the difference.
    """
    return weight + scale * (up @ down).view_as(weight)


def matrix_shape(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of a weight as a matrix."""
    return weight.shape[0], weight.numel() // max(weight.shape[0], 1)


def add_lora(net: nn.Module, rank: int, alpha: float, known: Mapping[str, Tensor]) -> list[str]:
    """Let low-rank differences be trained in place of the weight matrices of a network, whatever its layers.

    A matrix is adapted where its two factors have less than half of its numbers. Everything else is trained itself:
    the input and output of small networks, biases, norms, tables, what the network does not have from its base, and
    what a weight is computed from already, as with weight normalisation.

    Args:
        net: The network, with the weights of its base in place; changed.
        rank: Rank of the differences.
        alpha: Their scale; the difference is multiplied by ``alpha / rank``.
        known: Weights of the base.

    Returns:
        Names of the adapted weights.

    Raises:
        ValueError: If no weight is large enough.
    """
    found = []
    for place, module in list(net.named_modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            full = f"{place}.{name}" if place else name
            same = full in known and known[full].shape == weight.shape
            if isinstance(module, _WHOLE) or weight.ndim < 2 or not same:
                continue
            if 2 * rank * sum(matrix_shape(weight)) < weight.numel():
                weight.requires_grad_(False)
                parametrize.register_parametrization(module, name, LowRank(weight, rank, alpha), unsafe=True)
                found.append(full)
    if not found:
        raise ValueError(f"this network has no weight matrix that a LoRA of rank {rank} would be smaller than")
    return found


def has_lora(net: nn.Module) -> bool:
    """Whether a network has been through :func:`add_lora`."""
    return any(isinstance(module, LowRank) for module in net.modules())


def lora_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file holds of an adapted network: the factors, and all that is trained itself.

    Args:
        state: State of the network, by its names.
    """
    found = {}
    for name, value in state.items():
        if f"{name.removesuffix('.original')}.0.down" in state:  # of the base
            continue
        factor = _FACTOR.fullmatch(name)
        if factor is not None:
            name = f"{factor[1]}{factor[2]}{DOWN if factor[3] == 'down' else UP}"
        found[name] = value
    return found


def merged(
    start: Mapping[str, Tensor], known: Collection[str], tensors: Mapping[str, Tensor], scale: float, strength: float
) -> dict[str, Tensor]:
    r"""The weights of a base with an adapter, :math:`W + s\,\frac{\alpha}{r} B A`.

    What an adapter holds whole goes by the share :math:`s` from where it began to where it ended; what the base does
    not have and did not begin at zero is as it ended.

    Args:
        start: State of the network with the weights of the base in place.
        known: Names of the weights that the base has.
        tensors: What :func:`lora_tensors` gave.
        scale: Factor of the low-rank differences, :math:`\alpha / r`.
        strength: How much of the adapter there is to be, :math:`s`: 0 is the base, 1 what was trained.

    Raises:
        ValueError: If a tensor belongs to no weight, or does not have its shape.
    """
    found = dict(start)
    for name, value in tensors.items():
        weight = name.removesuffix(DOWN).removesuffix(UP)
        if weight not in start:
            raise ValueError(f"there is no weight {weight!r}")
        first, value = start[weight], value.to(start[weight])
        if name.endswith(UP):
            down = tensors.get(weight + DOWN)
            if down is None or (len(value), down.shape[-1]) != matrix_shape(first) or value.shape[1:] != down.shape[:1]:
                raise ValueError(f"{name} does not fit a weight of shape {list(first.shape)}")
            found[weight] = adapted(first, down.to(first), value, strength * scale)
        elif weight == name:
            if value.shape != first.shape:
                raise ValueError(f"{name} has shape {list(value.shape)} instead of {list(first.shape)}")
            gradual = first.is_floating_point() and (weight in known or not first.any())
            found[weight] = first.lerp(value, strength) if gradual else value
    return found
