"""The times at which a model samples where none are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unistep.core.timesteps import karras_grid

if TYPE_CHECKING:
    from unistep.generation.model_config import ModelConfig


def sampling_times(config: ModelConfig, steps: int) -> Tensor:
    """Sampling times for a number of steps, shape ``[steps]``: those found by search, else a Karras grid.

    Args:
        config: The model.
        steps: Their number.

    Raises:
        ValueError: If there are none.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    path = config.path
    found = config.times.get(str(steps))
    if config.kind != "denoiser" and found is not None:
        return torch.tensor(found)
    low, high = (float(path.ratio(torch.tensor(t, dtype=torch.float64))) for t in (path.t_min, path.t_max))
    high = min(high, 1e4)  # linear flow ends at an infinite ratio
    if config.kind == "denoiser":
        ratios = karras_grid(steps, low, high)
    else:
        # A one-step model gains nothing near the data: spread the steps above a tenth of the data's scale.
        low = max(min(0.1 * config.sigma_data, high / 2), config.sigma_min_trained)
        ratios = karras_grid(steps + 1, low, high)[:-1]
    times = path.time_at(ratios)
    times[0] = path.t_max
    return times


class KeptTimes:
    """The sampling times of a model, which are found once for each number of steps.

    Args:
        config: The model.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._found: dict[int, Tensor] = {}

    def __call__(self, steps: int) -> Tensor:
        """Those of a number of steps, shape ``[steps]``; the caller's own."""
        if steps not in self._found:
            with torch.inference_mode(mode=False):
                self._found[steps] = sampling_times(self._config, steps)
        return self._found[steps].clone()
