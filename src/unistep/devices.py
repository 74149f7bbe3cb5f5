"""Devices by name, as PyTorch counts them."""

from __future__ import annotations

import torch
from torch import nn

from unistep.spelling import nearest_hint

_USUAL = ("cpu", "cuda", "mps", "xpu")


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        ValueError: If there is no such name, or PyTorch sees no such GPU.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        hint = nearest_hint(str(device), _USUAL)
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}{hint}") from None
    count = torch.cuda.device_count() if found.type == "cuda" and torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        seen = f"{count} GPU{'' if count == 1 else 's'}" if count else "no GPU"
        raise ValueError(f"device {device!s} was asked for, and PyTorch sees {seen}; use cpu")
    return found


def device_of(module: nn.Module) -> torch.device:
    """Where the first of a module's parameters is; the default device where it has none.

    ``next(module.parameters())`` finds the same, and takes several times as long: it makes a generator for each module.
    """
    found = _first_parameter(module)
    return torch.get_default_device() if found is None else found.device


def _first_parameter(module: nn.Module) -> nn.Parameter | None:
    for own in module._parameters.values():
        if own is not None:
            return own
    for child in module._modules.values():
        found = None if child is None else _first_parameter(child)
        if found is not None:
            return found
    return None
