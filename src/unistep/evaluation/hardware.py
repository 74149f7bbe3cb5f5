"""What a time was taken on, in words, for every figure that depends on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


def hardware(*devices: str | torch.device) -> str:
    """Name of the GPU among the devices, else of the processor with PyTorch's threads."""
    for device in map(torch.device, devices):
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if _CPUINFO.is_file():
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads"
