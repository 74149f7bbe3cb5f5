r"""Rounding by what a layer is given: errors of a value are made good by the values that are not rounded yet.

A layer's output moves by :math:`e^\top H e` on average, with :math:`e` the errors of a row of weights and :math:`H` the
second moments of its inputs. Columns are rounded one after the other, those with the largest inputs first, and what a
column's rounding does to the output is taken back by the others as far as they can, in closed form (Frantar et al.
2022, "GPTQ", arXiv 2210.17323, algorithm 1, due to Hassibi and Stork 1993). The multiples are those of
:mod:`unistep.quantized`, which writes them as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from unistep.quantized import is_coded, relative_steps, row_steps

ROWS = 4096
"""Inputs of a layer that are kept of one call."""
DAMPING = 0.01
"""Added to the diagonal of the second moments, relative to its mean: what few inputs cannot tell."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layers(net: nn.Module) -> dict[str, nn.Linear | _ConvNd]:
    """The layers by the names of their weights that are rounded so; all others are rounded value by value."""
    found: dict[str, nn.Linear | _ConvNd] = {}
    for name, module in net.named_modules():
        if not isinstance(module, (nn.Linear, *CONVOLUTIONS)) or not is_coded(module.weight):
            continue
        if isinstance(module, nn.Linear) or (module.groups == 1 and set(module.dilation) == {1}):
            found[f"{name}.weight"] = module
    return found


def inputs(layer: nn.Linear | _ConvNd, x: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the inputs that a layer's rows of weights are multiplied with, ``[n, columns]``."""
    if isinstance(layer, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        return rows[torch.randint(len(rows), (min(ROWS, len(rows)),), generator=generator)]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)  # pyright: ignore[reportPrivateUsage]
    for axis, (size, stride) in enumerate(zip(layer.kernel_size, layer.stride, strict=True)):
        x = x.unfold(2 + axis, size, stride)
    places = x.movedim(1, len(layer.kernel_size) + 1)  # [batch, *places, channels, *kernel]
    leading = places.shape[: len(layer.kernel_size) + 1]
    count = min(ROWS, leading.numel())
    chosen = tuple(torch.randint(n, (count,), generator=generator) for n in leading)
    return places[chosen].flatten(1)


def second_moments(net: nn.Module, use: Callable[[], None]) -> dict[str, Tensor]:
    """Mean outer products of each layer's inputs, by the names of their weights, while the network is used."""
    generator, found, handles = torch.Generator().manual_seed(0), dict[str, Tensor](), []

    def watch(name: str, layer: nn.Linear | _ConvNd) -> None:
        def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            del module
            rows = inputs(layer, given[0].detach().float(), generator)
            found[name] = found.get(name, 0) + (rows.T @ rows).double()

        handles.append(layer.register_forward_pre_hook(add))

    for name, layer in layers(net).items():
        watch(name, layer)
    try:
        with torch.no_grad():
            use()
    finally:
        for handle in handles:
            handle.remove()
    return found


def rounded_rows(rows: Tensor, moments: Tensor, steps: Tensor) -> Tensor:
    """Multiples of each row's step, near the rows ``[rows, columns]`` in what they make of the inputs."""
    weights, unit = rows.double().clone(), steps.double()
    order = moments.diagonal().argsort(descending=True)
    mean = moments.diagonal().mean().clamp_min(1e-30)
    damped = moments[order][:, order] + DAMPING * mean * torch.eye(len(moments), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    weights = weights[:, order]
    result = torch.zeros_like(weights)
    for column in range(weights.shape[1]):
        value = weights[:, column]
        result[:, column] = torch.where(unit > 0, (value / unit).round() * unit, 0.0)
        error = (value - result[:, column]) / upper[column, column]
        weights[:, column + 1 :] -= error[:, None] * upper[column, column + 1 :]
    return result[:, order.argsort()]


@torch.no_grad()
def round_layers(net: nn.Module, bits: int, use: Callable[[], None]) -> None:
    """Round a network's layers in place, to what a file of so many bits a value holds of them exactly.

    Args:
        net: The network.
        bits: Mean number of bits a value.
        use: Uses the network on what it is made for.
    """
    moments = second_moments(net, use)
    relative = relative_steps(net.state_dict(), bits)
    for name, layer in layers(net).items():
        if name in moments:
            rows = layer.weight.double().flatten(1)
            found = rounded_rows(rows, moments[name], row_steps(rows, relative[name]))
            layer.weight.copy_(found.view_as(layer.weight).float())
