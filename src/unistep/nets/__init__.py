"""Networks; imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unistep.nets.config import NetworkConfig
    from unistep.nets.dit import DiT, DiTConfig
    from unistep.nets.unet import UNet, UNetConfig

__all__ = ["DiT", "DiTConfig", "NetworkConfig", "UNet", "UNetConfig"]

_HOMES = {"DiT": "dit", "DiTConfig": "dit", "NetworkConfig": "config", "UNet": "unet", "UNetConfig": "unet"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
