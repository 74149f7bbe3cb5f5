"""Pictures: files to tensors in [-1, 1] and back, and grids to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unistep.modalities.image_reading import Fit, UnusablePictureError, decode

if TYPE_CHECKING:
    from PIL import Image

    from unistep.nets.config import NetworkConfig

LARGEST_SIDE = 8192
"""Longest side of a picture, in pixels, as of those that can be trained on."""


@dataclass(frozen=True, kw_only=True)
class ImageModality:
    """Pictures of one size, grey or RGB."""

    size: int | tuple[int, int]
    """Side of a square, or height and width, in pixels."""
    channels: int
    """1 for grey, 3 for RGB."""

    previews: ClassVar[int] = 25
    """Number of samples that a training run shows."""
    example: ClassVar[str] = "samples.png"
    """Where samples go when nobody says where."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if min(self.shape[1:]) < 1 or max(self.shape[1:]) > LARGEST_SIDE:
            raise ValueError(f"size must be from 1 to {LARGEST_SIDE} pixels, got {self.size}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.channels, height, width

    @property
    def signal_shape(self) -> tuple[int, int, int]:
        """The same: a network sees pictures as they are."""
        return self.shape

    @staticmethod
    def to_tensor(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Pixels 0 to 255 as values in [-1, 1], ``x / 127.5 - 1``, float32 on the same device."""
        return pixels.float() / 127.5 - 1

    @staticmethod
    def to_signal(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What a network makes as values in [-1, 1]."""
        return x.clamp(-1, 1)

    @staticmethod
    def to_uint8(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """Inverse of :meth:`to_tensor`: rounded to the nearest pixel value and clamped to 0 to 255.

        Raises:
            ValueError: If there are values that are not numbers.
        """
        if x.isnan().any():
            raise ValueError(f"{int(x.isnan().sum())} of {x.numel()} pixel values are not numbers; the model is broken")
        return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def load(self, path: str | Path, *, fit: Fit = "crop", background: str = "white") -> Float[Tensor, "c h w"]:
        """Read a picture file and bring it to :attr:`shape`.

        Args:
            path: The file, in any format that training data may have.
            fit: Rule for a picture of another shape.
            background: Colour behind transparent pixels and around padded pictures.

        Returns:
            Tensor of shape ``[c, h, w]`` in [-1, 1].

        Raises:
            ValueError: If the file is not a whole picture, with the reason.
        """
        channels, height, width = self.shape
        try:
            picture = decode(
                Path(path), size=(height, width), channels=1 if channels == 1 else 3, fit=fit, background=background
            )
        except UnusablePictureError as error:
            raise ValueError(f"cannot read the picture {path}: {error}") from error
        return self.to_tensor(torch.from_numpy(picture.pixels.copy()))

    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write pictures; what is written depends on how ``path`` ends.

        ``.png``, ``.jpg`` and ``.webp`` give one file: a single picture as it is, several as :meth:`grid`. ``.npz``
        gives ``arr_0``, uint8 ``[n, h, w, c]``, with ``labels`` as ``arr_1``. A folder, which is a path that ends with
        a slash or has no suffix, gets numbered PNG files, in place of those of an earlier call. Files appear whole or
        not at all.

        Args:
            x: Values in [-1, 1], or uint8 pixels, of shape ``[n, c, h, w]`` or ``[c, h, w]``.
            path: Where to.
            labels: Classes, shape ``[n]``, for ``.npz``.

        Raises:
            ValueError: If ``path`` cannot be written.
        """
        from unistep.modalities import writing as output

        output.check_path(path)
        pixels = self._pixels(x)
        if output.is_folder(path):
            output.write_folder([_picture(image) for image in pixels], path)
        elif Path(path).suffix.lower() == ".npz":
            output.write_npz(pixels.permute(0, 2, 3, 1).numpy(), labels, path)
        else:
            output.write_picture(_picture(pixels[0]) if len(pixels) == 1 else self.grid(pixels), path)

    @staticmethod
    def check_path(path: str | Path) -> None:
        """Raise now what :meth:`save` would raise after the work is done.

        Raises:
            ValueError: If the folder is missing or cannot be written, or the ending is unknown.
        """
        from unistep.modalities import writing as output

        output.check_path(path)

    def save_preview(self, x: Tensor, folder: Path, name: str) -> None:
        """Write ``name.png`` to look at.

        Raises:
            ValueError: If it cannot be written.
        """
        self.save(x, folder / f"{name}.png")

    def grid(self, x: Tensor, columns: int | None = None, labels: Sequence[str] | None = None) -> Image.Image:
        """Pictures side by side, in reading order, tiny ones enlarged without smoothing.

        Args:
            x: Values in [-1, 1], or uint8 pixels, of shape ``[n, c, h, w]`` or ``[c, h, w]``.
            columns: Pictures in a row; nearly square by default.
            labels: Words under each picture, ``n`` of them.
        """
        from unistep.modalities.contact_sheet import draw_grid

        return draw_grid([_picture(image) for image in self._pixels(x)], columns=columns, labels=labels)

    def contact_sheet(self, rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
        """One row of pictures for each title, such as before and after, or one, two and four steps.

        Args:
            rows: Title, and values in [-1, 1] or uint8 pixels of shape ``[n, c, h, w]``; rows may differ in length.
        """
        from unistep.modalities.contact_sheet import draw_rows

        return draw_rows([(title, [_picture(image) for image in self._pixels(x)]) for title, x in rows])

    @classmethod
    def usual(cls) -> ImageModality:
        """Images of a usual shape, for a configuration whose data is not known yet."""
        return cls(size=28, channels=1)

    def default_networks(self) -> tuple[NetworkConfig, ...]:
        """U-Nets for small images, from cheap to large."""
        from unistep.nets.presets import presets

        known = presets()
        return tuple(known[name] for name in ("fashion", "small", "medium"))

    @classmethod
    def tuning(cls, objective: str) -> dict[str, Any]:
        """Nothing: the methods' own defaults were found on images."""
        del objective
        return {}

    def _pixels(self, x: Tensor) -> UInt8[Tensor, "n c h w"]:
        """Pixels on the CPU, as a batch, once they are known to be pictures."""
        if not isinstance(x, Tensor):
            raise ValueError(f"pictures must be a torch tensor, got {type(x).__name__}; torch.from_numpy makes one")
        x = x.detach()
        batch = x[None] if x.ndim == 3 else x
        if batch.ndim != 4 or batch.shape[1] not in (1, 3) or 0 in batch.shape:
            raise ValueError(f"pictures must have shape [n, c, h, w] with c 1 or 3, got {list(x.shape)}")
        return (batch if batch.dtype == torch.uint8 else self.to_uint8(batch)).cpu()


def _picture(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    from PIL import Image

    return Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
