"""The contract of a signal, for windows of sensor recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unistep.codecs.identity import IdentityConfig
from unistep.modalities import writing
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.contact_sheet import draw_grid, draw_rows
from unistep.modalities.feature_roles import FeatureRoles
from unistep.modalities.plot import draw_curves
from unistep.modalities.recording import Recording
from unistep.modalities.signal_options import SignalOptions
from unistep.modalities.unusable import UnusableFileError
from unistep.nets.config import NetworkConfig
from unistep.nets.unet import UNetConfig
from unistep_sensors.options import SensorOptions
from unistep_sensors.reading import read_rows, to_csv

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = writing.Endings(
    noun="windows",
    all=(".csv", ".npz", *writing.FORMATS),
    usual=".csv, .npz, .png, .jpg, .webp",
    example="out.csv",
    numbered=".csv",
)
"""What windows can be written to."""


@dataclass(frozen=True, kw_only=True)
class SensorModality(Modality):
    """Windows of one length with a channel for each column, in [-1, 1] of the full scale."""

    columns: int = 3
    """Channels."""
    window: int = 64
    """Rows."""
    full_scale: float = 1.0
    """Reading that is 1 in a signal."""

    noun: ClassVar[str] = "window"
    suffixes: ClassVar[frozenset[str]] = frozenset({".csv"})
    options: ClassVar[type[SignalOptions]] = SensorOptions
    example: ClassVar[str] = "samples.csv"

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and rows."""
        return self.columns, self.window

    @property
    def described(self) -> str:
        """Rows, channels and scale in words."""
        return f"{self.window} rows of {self.columns} channels, full scale {self.full_scale:g}"

    @property
    def meaning(self) -> tuple[Any, ...]:
        """The scale, which stored values do not say."""
        return (self.full_scale,)

    @property
    def chunk(self) -> SensorModality:
        """Windows of half the length."""
        return replace(self, window=self.window // 2)

    def to_signal(self, stored: Tensor) -> Tensor:
        """Readings as values in [-1, 1]."""
        return (stored.float() / self.full_scale).clamp(-1, 1)

    def to_stored(self, signal: Tensor) -> Tensor:
        """Values in [-1, 1] as readings.

        Raises:
            ValueError: If there are values that are not numbers.
        """
        if not signal.isfinite().all():
            bad = int((~signal.isfinite()).sum())
            raise ValueError(f"{bad} of {signal.numel()} readings are not numbers; the model is broken")
        return signal.float().clamp(-1, 1) * self.full_scale

    @classmethod
    def fitted(cls, options: SensorOptions, shape: tuple[int, ...]) -> SensorModality:
        """The modality of windows that were read by these options."""
        columns, window = shape
        return cls(columns=columns, window=window, full_scale=options.full_scale)

    @classmethod
    def item_shape(cls, options: SensorOptions) -> tuple[int, int]:
        """Channels and rows."""
        return options.columns, options.window

    def as_options(self) -> SensorOptions:
        """The options that give such windows."""
        return SensorOptions(columns=self.columns, window=self.window, full_scale=self.full_scale)

    def shape_option(self, shape: tuple[int, ...]) -> str:
        """The length."""
        return f"--data.window {shape[-1]}"

    @classmethod
    def read(cls, path: Path, options: SensorOptions) -> Decoded:
        """The first window of a recording.

        Raises:
            UnusableFileError: If it has none, with the reason.
        """
        rows = _long_enough(read_rows(path, options.columns), options)
        return Decoded(values=np.ascontiguousarray(rows[: options.window].T))

    @classmethod
    def count_windows(cls, path: Path, options: SensorOptions) -> int:
        """How many windows a file has by its number of lines."""
        try:
            with path.open("rb") as file:
                lines = sum(1 for _ in file)
        except OSError:
            return 1  # reading says what is wrong
        return max(1, 1 + (lines - options.window) // (options.window // 2))

    @classmethod
    def read_windows(cls, path: Path, options: SensorOptions) -> Recording:
        """The whole of a recording, and windows of it, each of which begins where the one before is half over.

        Raises:
            UnusableFileError: If it has none, with the reason.
        """
        rows = _long_enough(read_rows(path, options.columns), options)
        step = options.window // 2
        starts = tuple(range(0, len(rows) - options.window + 1, step))
        return Recording(blocks=iter([rows]), starts=starts, slack=step // 2)

    def load(self, path: str | Path) -> Tensor:
        """The first window of a file as a signal.

        Raises:
            ValueError: If it cannot be read, with the reason.
        """
        try:
            found = self.read(Path(path), self.as_options())
        except UnusableFileError as error:
            raise ValueError(f"cannot read the recording {path}: {error}") from error
        return self.to_signal(torch.from_numpy(found.values))

    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write windows to a table, an archive, a plot, or a folder of tables.

        Raises:
            ValueError: If ``path`` cannot be written.
        """
        self.check_path(path)
        readings = self._readings(x)
        if writing.is_folder(path):
            writers = [lambda file, one=one: file.write_text(to_csv(one[None])) for one in readings]
            writing.fill_folder(writers, path, ".csv")
            return
        suffix = Path(path).suffix.lower()
        writing.write_whole(path, lambda file: file.write(self._encoded(readings, suffix, labels)))

    def encode(self, x: Tensor, format: str) -> bytes:
        """Windows as the bytes of a file: ``csv``, ``npz``, or a plot as ``png``, ``jpg`` or ``webp``.

        Raises:
            ValueError: For an unknown format.
        """
        return self._encoded(self._readings(x), writing.suffix_of(format, ENDINGS), None)

    def check_path(self, path: str | Path) -> None:
        """Raise now what :meth:`save` would raise after the work is done."""
        writing.check_path(path, ENDINGS)

    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write ``name.png``."""
        self.save(x, folder / f"{name}.png")

    def grid(self, x: Tensor, columns: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """Plots side by side, a curve for each channel."""
        return draw_grid(self._plots(self._readings(x)), columns=columns, labels=labels)

    def contact_sheet(self, rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
        """One row of plots for each title."""
        return draw_rows([(title, self._plots(self._readings(x))) for title, x in rows])

    def default_codec(self) -> IdentityConfig:
        """The network sees the windows."""
        return IdentityConfig()

    def feature_roles(self) -> FeatureRoles:
        """Statistics of the channels report too."""
        return FeatureRoles(selection="random-convolutions:1", reporting=("vicreg", "sensor-statistics"))

    def default_networks(self, shape: tuple[int, ...]) -> Sequence[NetworkConfig]:
        """Small U-Nets over the rows."""
        levels = 2 if shape[-1] % 2 == 0 else 1
        return [
            UNetConfig(channels=shape[0], dims=1, patch=1, widths=widths[:levels], blocks=(1, 1)[:levels])
            for widths in ((32, 64), (64, 128))
        ]

    def _readings(self, x: Tensor) -> np.ndarray:
        batch = x[None] if tuple(x.shape) == self.shape else x
        if tuple(batch.shape[1:]) != self.shape or len(batch) == 0:
            raise ValueError(f"windows must have shape [n, {self.columns}, {self.window}], got {[*x.shape]}")
        return self.to_stored(batch.detach()).cpu().numpy()

    def _encoded(self, readings: np.ndarray, suffix: str, labels: Sequence[int] | None) -> bytes:
        if suffix == ".csv":
            return to_csv(readings).encode()
        if suffix == ".npz":
            return writing.encode_npz(readings, labels)
        plots = self._plots(readings)
        return writing.encode_picture(plots[0] if len(plots) == 1 else draw_grid(plots), suffix)

    def _plots(self, readings: np.ndarray) -> list[Image.Image]:
        return [draw_curves(one, -self.full_scale, self.full_scale) for one in readings]


def _long_enough(rows: np.ndarray, options: SensorOptions) -> np.ndarray:
    if len(rows) < options.window:
        raise UnusableFileError(f"has {len(rows)} rows, and a window needs {options.window}")
    return rows
