"""How CSV files become windows of one shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unistep.modalities.signal_options import SignalOptions, check_whole


@dataclass(frozen=True, kw_only=True)
class SensorOptions(SignalOptions):
    """Columns, length and scale of the windows."""

    columns: int = 3
    """Channels: columns of a file."""
    window: int = 64
    """Rows of a window; the next one begins where the one before is half over."""
    full_scale: float = 1.0
    """Reading that becomes 1, such as 16 for an accelerometer of 16 g; larger ones are clamped."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        check_whole(columns=self.columns, window=self.window)
        if not 1 <= self.columns <= 1_000:
            raise ValueError(f"columns must be from 1 to 1000, got {self.columns}")
        if not 2 <= self.window <= 1_000_000:
            raise ValueError(f"window must be from 2 to 1000000 rows, got {self.window}")
        if not 0 < self.full_scale < math.inf:
            raise ValueError(f"full_scale must be a positive number, got {self.full_scale}")

    @property
    def windowed(self) -> bool:
        """Files are recordings of any length."""
        return True
