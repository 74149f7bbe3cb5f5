"""Images: files to tensors in [-1, 1] and back, and grids to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unistep.codecs.identity import IdentityConfig
from unistep.modalities.augmentation import ConditionalAugmentation
from unistep.modalities.base import Decoded, Modality
from unistep.modalities.enough import EnoughItems
from unistep.modalities.image_augmentation import AUGMENTATIONS, CONDITIONAL
from unistep.modalities.image_options import ImageOptions
from unistep.modalities.image_reading import SUFFIXES, Fit, UnusablePictureError, decode
from unistep.modalities.layout import Layout
from unistep.modalities.signal_options import SignalOptions
from unistep.modalities.views import scaled, shifted

if TYPE_CHECKING:
    from PIL import Image

    from unistep.nets.config import NetworkConfig

LARGEST_SIDE = 8192
"""Longest side of an image, in pixels, as of those that can be trained on."""
DEFAULT_SIZE = 32
"""Side of images from files of many sizes, in pixels."""
SIZES = (DEFAULT_SIZE, 48, 64)
"""Sides that a budget chooses among, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageModality(Modality):
    """Images of one size, grey or RGB."""

    size: int | tuple[int, int]
    """Side of a square, or height and width, in pixels."""
    channels: int
    """1 for grey, 3 for RGB."""

    noun: ClassVar[str] = "image"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    options: ClassVar[type[SignalOptions]] = ImageOptions
    media_types: ClassVar[Mapping[str, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
    augmentations: ClassVar[Mapping[str, Callable[[Tensor, torch.Generator], Tensor]]] = AUGMENTATIONS
    conditional_augmentations: ClassVar[Mapping[str, ConditionalAugmentation]] = CONDITIONAL
    previews: ClassVar[int] = 25
    example: ClassVar[str] = "samples.png"
    default_source: ClassVar[str | None] = "fashion-mnist"

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
    def described(self) -> str:
        """Width, height and colours in words."""
        _, height, width = self.shape
        return f"{width} x {height} pixels, {'grey' if self.channels == 1 else 'RGB'}"

    @property
    def layout(self) -> Layout:
        """Rows and columns, and colours of RGB images."""
        return Layout(colours=self.channels == 3, space=(2, 3))

    def to_signal(self, stored: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Pixels 0 to 255 as values in [-1, 1], ``x / 127.5 - 1``, float32 on the same device."""
        return stored.float() / 127.5 - 1

    def to_stored(self, signal: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
        """Inverse of :meth:`to_signal`: rounded to the nearest pixel value and clamped to 0 to 255.

        Raises:
            ValueError: If there are values that are not numbers.
        """
        if signal.isnan().any():
            bad = int(signal.isnan().sum())
            raise ValueError(f"{bad} of {signal.numel()} pixel values are not numbers; the model is broken")
        return ((signal.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    @classmethod
    def fitted(cls, options: Any, shape: tuple[int, ...]) -> ImageModality:
        """The modality of images ``[c, h, w]``."""
        del options
        channels, height, width = shape
        return cls(size=height if height == width else (height, width), channels=channels)

    @classmethod
    def item_shape(cls, options: ImageOptions) -> tuple[int, int, int]:
        """RGB, and squares of 32 pixels, where the options do not say otherwise."""
        side = options.size or DEFAULT_SIZE
        return options.channels or 3, side, side

    def as_options(self) -> ImageOptions:
        """Size and colours; of images that are not square the source has to have the size."""
        _, height, width = self.shape
        return ImageOptions(channels=self.channels, size=height if height == width else None)

    def shape_option(self, shape: tuple[int, ...]) -> str:
        """The size of a square."""
        return f"--data.size {shape[1]}"

    @classmethod
    def read(cls, path: Path, options: ImageOptions) -> Decoded:
        """Read an image file and bring it to :meth:`item_shape`.

        Raises:
            UnusableFileError: If it is none, with the reason.
        """
        channels, *size = cls.item_shape(options)
        image = decode(
            path,
            size=(size[0], size[1]),
            channels=1 if channels == 1 else 3,
            fit=options.fit,
            background=options.background,
        )
        return Decoded(values=image.pixels, notes=image.notes)

    @classmethod
    def one_channel_if_equal(cls, options: ImageOptions) -> bool:
        """Grey images, which are read as RGB, are kept with one channel where the options do not say how many."""
        return options.channels is None

    @classmethod
    def of_tensors(cls, shape: tuple[int, ...], dtype: torch.dtype) -> ImageModality | None:
        """Bytes ``[c, h, w]`` with one channel or three are images."""
        if dtype != torch.uint8 or len(shape) != 3 or shape[0] not in (1, 3):
            return None
        return cls(size=(shape[1], shape[2]), channels=shape[0])

    def load(self, path: str | Path, *, fit: Fit = "crop", background: str = "white") -> Float[Tensor, "c h w"]:
        """Read an image file and bring it to :attr:`shape`.

        Args:
            path: The file, in any format that training data may have.
            fit: Rule for an image of another shape.
            background: Colour behind transparent pixels and around padded images.

        Returns:
            Tensor of shape ``[c, h, w]`` in [-1, 1].

        Raises:
            ValueError: If the file is not a whole image, with the reason.
        """
        channels, height, width = self.shape
        try:
            picture = decode(
                Path(path), size=(height, width), channels=1 if channels == 1 else 3, fit=fit, background=background
            )
        except UnusablePictureError as error:
            raise ValueError(f"cannot read the image {path}: {error}") from error
        return self.to_signal(torch.from_numpy(picture.pixels.copy()))

    def save(self, x: Tensor, path: str | Path, *, labels: Sequence[int] | None = None) -> None:
        """Write images; what is written depends on how ``path`` ends.

        ``.png``, ``.jpg`` and ``.webp`` give one file: a single image as it is, several as :meth:`grid`. ``.npz``
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

    def encode(self, x: Tensor, format: str) -> bytes:
        """Images as the bytes of one file: several as :meth:`grid`, or all in an ``npz``.

        Args:
            x: Values in [-1, 1], or uint8 pixels, of shape ``[n, c, h, w]`` or ``[c, h, w]``.
            format: ``png``, ``jpg``, ``webp`` or ``npz``.

        Raises:
            ValueError: For an unknown format, or an image that is too large for it.
        """
        from unistep.modalities import writing as output

        suffix, pixels = output.suffix_of(format, output.PICTURES), self._pixels(x)
        if suffix == ".npz":
            return output.encode_npz(pixels.permute(0, 2, 3, 1).numpy())
        return output.encode_picture(_picture(pixels[0]) if len(pixels) == 1 else self.grid(pixels), suffix)

    def check_path(self, path: str | Path) -> None:
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
        """One row of images for each title, such as before and after, or one, two and four steps.

        Args:
            rows: Title, and values in [-1, 1] or uint8 pixels of shape ``[n, c, h, w]``; rows may differ in length.
        """
        from unistep.modalities.contact_sheet import draw_rows

        return draw_rows([(title, [_picture(image) for image in self._pixels(x)]) for title, x in rows])

    def _pixels(self, x: Tensor) -> UInt8[Tensor, "n c h w"]:
        """Pixels on the CPU, as a batch, once they are known to be images."""
        if not isinstance(x, Tensor):
            raise ValueError(f"images must be a torch tensor, got {type(x).__name__}; torch.from_numpy makes one")
        x = x.detach()
        batch = x[None] if x.ndim == 3 else x
        if batch.ndim != 4 or batch.shape[1] not in (1, 3) or 0 in batch.shape:
            raise ValueError(f"images must have shape [n, c, h, w] with c 1 or 3, got {list(x.shape)}")
        return (batch if batch.dtype == torch.uint8 else self.to_stored(batch)).cpu()

    def default_codec(self) -> IdentityConfig:
        """A network sees the pixels."""
        return IdentityConfig()

    def random_view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Moved by up to an eighth in both directions, with more or less contrast, and lighter or darker."""
        _, height, width = self.shape
        moved = scaled(shifted(x, (height // 8, width // 8), generator), 3.0, generator)
        return moved + 0.2 * (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1).to(x.device)

    def default_base(self) -> str | None:
        """The base of 64 pixels, for colour at sizes that its layers can take."""
        fits = self.channels == 3 and all(size % 8 == 0 and 48 <= size <= 128 for size in self.shape[1:])
        return "base-64" if fits else None

    def enough_items(self, *, from_base: bool) -> EnoughItems:
        """As many as our runs took on one core, in minutes; a size that was not measured has a straight line's number.

        A denoiser from nothing: at 28 pixels a teacher of 62,336 images measured 8.42 where noise has 88.5
        (``benchmarks/equal_budget.py teacher-muon --seconds 120``, an Intel Xeon; the log of 2026-11-26); at 64, after
        52,224, outlines were right and details noise (``unistep train ect --data.size 64 --budget 40m --init none`` on
        5,782 images, an AMD EPYC), so the number grows with the side. From a base: 7 minutes, about 15,000 images, gave
        425 where as long from nothing gave 1,042 and those 52,224 gave 219 (the same processor and features); twice
        that is between the two.

        A student: from 9,088 to 28,032 images its distance fell from 8.96 to 3.67, and to 1.37 with 56,064
        (``benchmarks/methods.py fashion-ect --seconds 600``, the same Xeon). With 18,240 at 64 pixels it left blobs of
        noise (the run of 40 minutes).
        """
        side = max(self.shape[1:])
        return EnoughItems(denoiser=30_000 if from_base else 60_000 * max(side, 32) // 32, student=30_000)

    @classmethod
    def file_shape(cls, path: Path) -> tuple[int, int, int] | None:
        """Channels, height and width by the header."""
        from unistep.modalities.image_reading import header_shape

        return header_shape(path)

    @classmethod
    def sizes_to_consider(cls, options: ImageOptions, shapes: Sequence[tuple[int, ...]]) -> Sequence[ImageModality]:
        """Squares of 32, 48 and 64 pixels, those that three quarters of the files fill without being enlarged."""
        if options.size is not None or not shapes:
            return ()
        channels = options.channels or max(shape[0] for shape in shapes)
        sides = sorted(min(shape[1:]) for shape in shapes)
        side = sides[len(sides) // 4]
        return [cls(size=size, channels=channels) for size in SIZES if size == SIZES[0] or size <= side]

    @classmethod
    def options_like(cls, options: ImageOptions, known: Modality) -> ImageOptions:
        """With the size of square images."""
        _, height, width = cls.expect(known, "image options").shape
        return replace(options, size=height) if options.size is None and height == width else options

    @classmethod
    def post_training_share(cls, objective: str) -> float:
        """A fifth of a tuning: 5,796 sprites came to less than half of their distance by it."""
        return 0.2 if objective == "ect" else 0.0

    def default_networks(self, shape: tuple[int, ...]) -> Sequence[NetworkConfig]:
        """U-Nets that work at 7 to 16 pixels a side inside, cheaper with more space-to-depth.

        All have the gated skip. Without it, noise must pass through layers that normalise, which takes a hundred
        thousand images to learn: after 7,000 of 64 pixels the loss at noise levels from 0.1 to 0.5 was 0.81 without and
        0.31 with it, and until then samples are covered with noise. Patches of 4 and more come with blocks at full
        resolution, without which details are learned no better than by a linear filter (the log of 2026-11-29); images
        of more than 64 pixels, for which those would cost more than all the rest, go without.
        """
        from unistep.nets.unet_config import UNetConfig

        sizes = shape[1:]

        def network(patch: int, widths: tuple[int, ...], **shape: Any) -> UNetConfig:
            fine = 24 if patch >= 4 and math.prod(sizes) <= 64 * 64 else 0
            return UNetConfig(patch=patch, widths=widths, gated_skip=True, fine_width=fine, **shape)

        folds = [fold for fold in (8, 4, 2, 1) if all(size % (2 * fold) == 0 for size in shape[1:])]
        side = min(shape[1:])
        folds = [fold for fold in folds if 7 <= side // fold <= 32] or folds[-1:] or [1]
        widths = {8: (96, 192), 4: (64, 128), 2: (48, 128), 1: (48, 128)}
        cheapest = network(folds[0], (48, 128), blocks=(1, 1))
        networks = [network(fold, widths[fold], blocks=(1, 2)) for fold in folds]
        finest = folds[-1]
        wide = tuple(2 * width for width in widths[finest])
        return [cheapest, *networks, network(finest, wide, blocks=(2, 2), embedding_dim=512)]


def _picture(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    from PIL import Image

    return Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
