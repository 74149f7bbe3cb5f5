"""Where to compute, as people write it."""

from __future__ import annotations


def choose_device(name: str) -> str:
    """``auto`` is a GPU where PyTorch sees one, else the CPU; ``cpu``, ``cuda`` and ``cuda:N`` are what they say.

    Raises:
        ValueError: If the name is none of these, or there is no such GPU.
    """
    import re

    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if match is None:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if name != "cpu" and int(match[1] or 0) >= count:
        seen = f"PyTorch sees {count} GPU{'' if count == 1 else 's'}" if count else "PyTorch sees no GPU"
        raise ValueError(f"--device {name} was asked for, and {seen}; use --device cpu")
    return name
