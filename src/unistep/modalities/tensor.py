"""Tensors of one shape, of whatever they stand for: arrays of your own, to and from NumPy files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unistep.codecs.identity import IdentityConfig
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.signal_options import SignalOptions
from unistep.modalities.unusable import UnusableFileError

if TYPE_CHECKING:
    from PIL import Image

    from unistep.nets.config import NetworkConfig

SUFFIXES = frozenset({".npy"})
"""Files that hold one tensor each."""
MOST_VALUES = 2**30
"""Most numbers in a tensor, 4 GiB: more are taken for a mistake."""


@dataclass(frozen=True, kw_only=True)
class TensorOptions(SignalOptions):
    """Shape of the tensors."""

    shape: tuple[int, ...] = ()
    """Shape of every tensor, channels first, such as ``3 100``; that of most files without."""

    def filled(self, shapes: Callable[[], Sequence[tuple[int, ...]]]) -> Self:
        """With the shape that most files have."""
        found = Counter(shapes()) if not self.shape else Counter()
        return replace(self, shape=found.most_common(1)[0][0]) if found else self

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: Naming the option, its value and what was expected.
        """
        if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in self.shape):
            raise ValueError(f"shape must be positive whole numbers, channels first, got {self.shape!r}")


@dataclass(frozen=True, kw_only=True)
class TensorModality(Modality):
    """Tensors of one shape with values as they are given: unbounded, in units of their own."""

    shape: tuple[int, ...] = (1,)  # pyright: ignore[reportIncompatibleMethodOverride]
    """Shape of one tensor, channels first."""

    noun: ClassVar[str] = "tensor"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    options: ClassVar[type[SignalOptions]] = TensorOptions
    example: ClassVar[str] = "samples.npy"

    def __post_init__(self) -> None:
        """Check the shape.

        Raises:
            ValueError: If it is not the shape of a tensor.
        """
        if not self.shape or min(self.shape) < 1 or math.prod(self.shape) > MOST_VALUES:
            raise ValueError(f"shape must hold 1 to {MOST_VALUES:,} values, channels first, got {self.shape}")

    @property
    def described(self) -> str:
        """The sizes."""
        return " x ".join(map(str, self.shape))

    def part(self, shape: tuple[int, ...]) -> TensorModality:
        """Tensors of another shape."""
        return replace(self, shape=tuple(shape))

    def to_signal(self, stored: Tensor) -> Tensor:
        """The same values as float32."""
        return stored.float()

    def to_stored(self, signal: Tensor) -> Tensor:
        """The same values as float32.

        Raises:
            ValueError: If there are values that are not numbers.
        """
        if not signal.isfinite().all():
            bad = int((~signal.isfinite()).sum())
            raise ValueError(f"{bad} of {signal.numel()} values are not numbers; the model is broken")
        return signal.float()

    @classmethod
    def fitted(cls, options: Any, shape: tuple[int, ...]) -> TensorModality:
        """The modality of tensors of ``shape``."""
        del options
        return cls(shape=tuple(shape))

    @classmethod
    def item_shape(cls, options: TensorOptions) -> tuple[int, ...]:
        """The shape of the options.

        Raises:
            ValueError: If they have none.
        """
        if not options.shape:
            raise ValueError("say of which shape the tensors are, channels first, such as --data.shape 3 100")
        return options.shape

    @classmethod
    def usual(cls) -> TensorModality:
        """A short curve: there is no usual shape."""
        return cls(shape=(1, 16))

    def as_options(self) -> TensorOptions:
        """The shape."""
        return TensorOptions(shape=self.shape)

    def shape_option(self, shape: tuple[int, ...]) -> str:
        """The shape."""
        return f"--data.shape {' '.join(map(str, shape))}"

    @classmethod
    def file_shape(cls, path: Path) -> tuple[int, ...] | None:
        """That of the array; a vector is one channel."""
        try:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (OSError, ValueError, EOFError):
            return None
        return (1, *shape) if len(shape) == 1 else shape

    @classmethod
    def read(cls, path: Path, options: TensorOptions) -> Decoded:
        """Read a ``.npy`` file; nothing in it is ever executed. One channel, or a batch of one, needs no axis.

        Raises:
            UnusableFileError: If it is none, or its array has another shape or no numbers.
        """
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UnusableFileError(f"not a readable .npy file: {' '.join(str(error).split())[:120]}") from error
        wanted = cls.item_shape(options)
        if tuple(values.shape) == (1, *wanted):  # a batch of one, as samples are written
            values = values[0]
        elif (1, *values.shape) == wanted:
            values = values[None]
        if tuple(values.shape) != wanted:
            raise UnusableFileError(f"has shape {[*values.shape]}, not {[*wanted]}")
        if values.dtype.kind not in "fiub":
            raise UnusableFileError(f"has values of type {values.dtype}, not numbers")
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not np.isfinite(single).all():
            raise UnusableFileError("has values that are not numbers, or too large for single precision")
        return Decoded(values=single)

    def load(self, path: str | Path) -> Tensor:
        """Read one ``.npy`` file of :attr:`shape`.

        Raises:
            ValueError: If it cannot be read, with the reason.
        """
        try:
            return torch.from_numpy(self.read(Path(path), self.as_options()).values)
        except UnusableFileError as error:
            raise ValueError(f"cannot read the tensor {path}: {error}") from error

    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write tensors; what is written depends on how ``path`` ends.

        ``.npy`` gives one array ``[n, *shape]``, of one tensor ``shape``; ``.npz`` a batch as ``arr_0``, with the
        labels as ``arr_1``; ``.png``, ``.jpg`` and ``.webp`` give a plot. A folder, which is a path that ends with a
        slash or has no suffix, gets numbered ``.npy`` files.

        Args:
            x: Values of shape ``[n, *shape]`` or ``shape``.
            path: Where to.
            labels: Classes, shape ``[n]``, for ``.npz``.

        Raises:
            ValueError: If ``path`` cannot be written.
        """
        from unistep.modalities import writing

        self.check_path(path)
        batch = self._batch(x)
        if writing.is_folder(path):
            writers = [lambda file, item=item: np.save(file, item) for item in batch.numpy()]
            writing.fill_folder(writers, path, ".npy")
            return
        suffix, alone = Path(path).suffix.lower(), tuple(x.shape) == self.shape
        writing.write_whole(path, lambda file: file.write(self._encoded(batch, suffix, labels, alone=alone)))

    def encode(self, x: Tensor, format: str) -> bytes:
        """Tensors as the bytes of one file: ``npy``, ``npz``, or a plot as ``png``, ``jpg`` or ``webp``.

        One of :attr:`shape` becomes a ``npy`` that :meth:`read` takes, a batch an array of it.

        Raises:
            ValueError: For an unknown format.
        """
        from unistep.modalities.writing import suffix_of

        suffix, batch = suffix_of(format, _endings()), self._batch(x)
        return self._encoded(batch, suffix, None, alone=tuple(x.shape) == self.shape)

    def check_path(self, path: str | Path) -> None:
        """Raise now what :meth:`save` would raise after the work is done."""
        from unistep.modalities.writing import check_path

        check_path(path, _endings())

    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write ``name.png`` to look at."""
        self.save(x, folder / f"{name}.png")

    def grid(self, x: Tensor, columns: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """Plots side by side, in reading order: a curve for each channel, or grey values where there are more axes."""
        from unistep.modalities.contact_sheet import draw_grid

        return draw_grid(self._plots(self._batch(x)), columns=columns, labels=labels)

    def contact_sheet(self, rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
        """One row of plots for each title."""
        from unistep.modalities.contact_sheet import draw_rows

        return draw_rows([(title, self._plots(self._batch(x))) for title, x in rows])

    def default_codec(self) -> IdentityConfig:
        """A network sees the values, brought to the scale that the model expects."""
        return IdentityConfig(bounded=False)

    def default_networks(self, shape: tuple[int, ...]) -> Sequence[NetworkConfig]:
        """U-Nets over the axes after the first, where there are one to three of even size."""
        from unistep.nets.unet_config import UNetConfig

        dims = len(shape) - 1
        if not 1 <= dims <= 3:
            return []
        levels = 2 if all(size % 2 == 0 for size in shape[1:]) else 1
        return [
            UNetConfig(channels=shape[0], dims=dims, patch=1, widths=widths[:levels], blocks=(1, 1)[:levels])
            for widths in ((32, 64), (64, 128), (128, 256))
        ]

    def _batch(self, x: Tensor) -> Tensor:
        """Values on the CPU, as a batch, once they are known to be such tensors."""
        if not isinstance(x, Tensor):
            raise ValueError(f"samples must be a torch tensor, got {type(x).__name__}; torch.from_numpy makes one")
        x = x.detach()
        batch = x[None] if tuple(x.shape) == self.shape else x
        if tuple(batch.shape[1:]) != self.shape or len(batch) == 0:
            raise ValueError(f"tensors must have shape [n, {', '.join(map(str, self.shape))}], got {[*x.shape]}")
        return self.to_stored(batch).cpu()

    def _encoded(self, batch: Tensor, suffix: str, labels: Sequence[int] | None, *, alone: bool) -> bytes:
        from unistep.modalities import writing

        if suffix == ".npz":
            return writing.encode_npz(batch.numpy(), labels)
        if suffix == ".npy":
            content = BytesIO()
            np.save(content, batch.numpy()[0] if alone else batch.numpy())
            return content.getvalue()
        plots = self._plots(batch)
        return writing.encode_picture(plots[0] if len(plots) == 1 else self.grid(batch), suffix)

    def _plots(self, batch: Tensor) -> list[Image.Image]:
        from unistep.modalities.plot import draw_curves, draw_values

        values = batch.numpy()
        low, high = float(values.min()), float(values.max())
        if len(self.shape) <= 2:  # one curve for each channel
            return [draw_curves(np.atleast_2d(item), low, high) for item in values]
        return [draw_values(item.reshape(-1, self.shape[-1]), low, high) for item in values]


def _endings() -> Any:
    from unistep.modalities.writing import FORMATS, Endings

    return Endings(
        noun="tensors",
        all=(".npy", ".npz", *FORMATS),
        usual=".npy, .npz, .png, .jpg, .webp",
        example="out.npy",
        numbered=".npy",
    )
