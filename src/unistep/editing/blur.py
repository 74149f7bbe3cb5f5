"""Blur by a kernel, undone in the Fourier domain, and the bandwidth of sounds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

THRESHOLD = 0.05
"""Frequencies that a blur keeps less of than this share are taken for lost: undoing it would amplify noise 20 times."""
LARGEST = 500.0
"""Largest number of a kernel's text: beyond it kernels are larger than signals, and take gigabytes."""
SUM_ERROR = 1e-3
"""How far the sum of a kernel may be from one."""


@final
class Blur:
    r"""Convolution with a kernel over the last two axes, periodic at the borders.

    With the kernel's transform :math:`K` and :math:`S` the frequencies at which :math:`|K|` exceeds a threshold,

    .. math:: A x = F^{-1} \mathbb 1_S K F x, \qquad A^\dagger y = F^{-1} \mathbb 1_S K^{-1} F y,

    so that what lies below the threshold counts as unknown.

    Args:
        kernel: Weights that sum to one, shape ``[height, width]``.
        size: Height and width of the signals.
        threshold: Least share of a frequency that counts as known, in (0, 1).

    Raises:
        ValueError: If the kernel is none, larger than the signals, or does not sum to one.
    """

    def __init__(self, kernel: Tensor, size: tuple[int, int], threshold: float = THRESHOLD) -> None:
        if kernel.dim() != 2 or kernel.is_complex() or not kernel.isfinite().all():
            raise ValueError(f"a kernel must be finite real numbers of shape [height, width], got {list(kernel.shape)}")
        if kernel.shape[0] > size[0] or kernel.shape[1] > size[1]:
            raise ValueError(
                f"the kernel has {kernel.shape[1]} x {kernel.shape[0]} values, more than the {size[1]} x {size[0]} "
                "pixels that it is to blur"
            )
        total = float(kernel.double().sum())
        if abs(total - 1) > SUM_ERROR:
            raise ValueError(f"a kernel must sum to one, and this one sums to {total:.4g}; divide it by its sum")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        padded = torch.zeros(size, dtype=torch.float64)
        padded[: kernel.shape[0], : kernel.shape[1]] = kernel
        centred = padded.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), dims=(0, 1))
        spectrum = torch.fft.rfft2(centred)
        known = spectrum.abs() > threshold
        self.size = size
        self._forth = torch.where(known, spectrum, 0).to(torch.complex64)
        self._back = torch.where(known, 1 / torch.where(known, spectrum, 1), 0).to(torch.complex64)

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Blurred signals."""
        return torch.fft.irfft2(torch.fft.rfft2(x.float()) * self._forth.to(x.device), s=self.size)

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """Signals with the known frequencies sharpened."""
        return torch.fft.irfft2(torch.fft.rfft2(y.float()) * self._back.to(y.device), s=self.size)

    def start(self, y: Tensor) -> Tensor:
        """The blurred signal itself, which rings less than the sharpened one."""
        return y


@final
class Bandwidth:
    """Only the frequencies up to a cutoff are known, along the last axis.

    Args:
        cutoff: Highest known frequency, in hertz.
        rate: Samples per second.

    Raises:
        ValueError: If there are no frequencies above or below the cutoff.
    """

    def __init__(self, cutoff: float, rate: float) -> None:
        if not 0 < cutoff < rate / 2:
            raise ValueError(f"cutoff must be between 0 and {rate / 2:g} Hz, half the sampling rate, got {cutoff:g}")
        self.cutoff, self.rate = cutoff, rate

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """Sounds without what lies above."""
        spectrum = torch.fft.rfft(x.float())
        kept = torch.fft.rfftfreq(x.shape[-1], 1 / self.rate, device=x.device) <= self.cutoff
        return torch.fft.irfft(spectrum * kept, n=x.shape[-1])

    def A_dagger(self, y: Tensor) -> Tensor:  # noqa: N802
        """The same."""
        return self.A(y)


def parse_kernel(text: str) -> Tensor:
    """The kernel that a person names.

    Args:
        text: ``gaussian:SIGMA``, ``box:SIDE``, ``motion:LENGTH:DEGREES``, or a file: ``.npy`` with an array that sums
            to one, or a picture, whose brightness is divided by its sum.

    Returns:
        Weights of shape ``[height, width]``.

    Raises:
        ValueError: If it is none of these, a number is out of range, or the file cannot be read.
    """
    name, *numbers = text.split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = None
    if values is not None and not all(abs(value) <= LARGEST for value in values):
        raise ValueError(f"the numbers of the kernel {text!r} must be at most {LARGEST:g}")
    if name == "gaussian" and values is not None and len(values) == 1 and values[0] > 0:
        reach = math.ceil(3 * values[0])
        row = (-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / values[0]).square()).exp()
        row = row / row.sum()
        return row[:, None] * row
    if name == "box" and values is not None and len(values) == 1 and values[0] >= 1 and values[0].is_integer():
        side = int(values[0])
        return torch.full((side, side), 1 / side**2, dtype=torch.float64)
    if name == "motion" and values is not None and len(values) == 2 and values[0] >= 1:
        return _motion(*values)
    if "." in name:
        return _read_kernel(Path(text).expanduser())
    raise ValueError(
        f"unknown kernel {text!r}; give gaussian:SIGMA such as gaussian:1.5, box:SIDE, motion:LENGTH:DEGREES, or a "
        "file such as kernel.npy"
    )


def _motion(length: float, degrees: float) -> Tensor:
    """A line through the middle, by the share of points that fall on each value."""
    reach = math.ceil(length / 2)
    kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
    points = torch.linspace(-length / 2, length / 2, 1 + 16 * math.ceil(length), dtype=torch.float64)
    angle = math.radians(degrees)
    rows, columns = (reach - points * math.sin(angle)).round().long(), (reach + points * math.cos(angle)).round().long()
    kernel.index_put_((rows, columns), torch.ones_like(points), accumulate=True)
    return kernel / kernel.sum()


def _read_kernel(path: Path) -> Tensor:
    if path.suffix.lower() == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
            if isinstance(values, np.ndarray) and values.dtype.kind in "bfiu":
                return torch.from_numpy(values.astype(np.float64))
        except (OSError, ValueError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "no array of numbers"
            raise ValueError(f"cannot read the kernel {path}: {reason}") from None
        raise ValueError(f"cannot read the kernel {path}: no array of real numbers")
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            values = torch.from_numpy(_brightness(picture))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the kernel {path}: {getattr(error, 'strerror', None) or 'no picture'}") from None
    if values.sum() == 0:
        raise ValueError(f"the kernel {path} is black: its values sum to zero")
    return values / values.sum()


def _brightness(picture: Image.Image) -> np.ndarray:
    """Values in proportion to brightness, float64 ``[h, w]``; what is transparent is dark.

    Pillow's own conversion to grey cuts off pictures of more than 8 bits at 255, and does not look at transparency.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return np.array(picture, dtype=np.float64)
    grey, alpha = (np.asarray(channel, np.float64) for channel in picture.convert("RGBA").convert("LA").split())
    return grey * alpha / 255
