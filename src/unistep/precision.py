"""Which arithmetic a device is fast at."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import nn

from unistep.spelling import nearest

Precision = Literal["fp32", "bf16"]
"""Arithmetic of a network; weights, losses and averages are float32 either way."""


WantedPrecision = Literal["auto", "fp32", "bf16"]
"""What a person can ask for; ``auto`` is what the device is fast at."""


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    CUDA devices from Ampere on do; CPUs do with AMX or AVX512-BF16 units (others only emulate it).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    # PyTorch answers these questions on x86 Linux only, and under private names; no answer means no.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check is not None)


def resolve_precision(wanted: WantedPrecision, device: torch.device) -> Precision:
    """The arithmetic to use: what was asked for, or what the device is fast at.

    Raises:
        ValueError: If it is not one of :data:`WantedPrecision`.
    """
    if wanted not in get_args(WantedPrecision):
        raise ValueError(f"unknown precision {wanted!r}; {nearest(wanted, get_args(WantedPrecision))}")
    if wanted == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    return wanted


def memory_layout(precision: Precision, device: torch.device) -> torch.memory_format:
    """The layout of pictures that a device is fast at.

    Channels last, except in bfloat16 on a CPU: PyTorch's group normalisation is seventeen times slower with them there.
    """
    slow = precision == "bf16" and device.type == "cpu"
    return torch.contiguous_format if slow else torch.channels_last


def set_memory_layout(module: nn.Module, precision: Precision, device: torch.device) -> None:
    """Lay out the kernels of two-dimensional convolutions in ``module`` as the device is fastest with.

    Only parameters of four dimensions change; of any module, as the layout of a tensor does not change what it is.
    """
    layout = memory_layout(precision, device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=layout)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context that runs a network in this arithmetic; losses and scalings stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
