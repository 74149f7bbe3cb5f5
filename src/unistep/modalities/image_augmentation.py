"""Random changes of images in training, by name: functions of one stored image and a generator, and conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import UInt8
from torch import Tensor

from unistep.modalities.augmentation import ConditionalAugmentation
from unistep.modalities.image_geometry import GeometricAugmentation

_BORDER = 8  # the border that a crop moves over is this part of the size


def flip(image: UInt8[Tensor, "c h w"], generator: torch.Generator) -> UInt8[Tensor, "c h w"]:
    """The image or its mirror image, left and right exchanged, with equal probability."""
    return image.flip(-1) if torch.rand((), generator=generator) < 0.5 else image


def crop(image: UInt8[Tensor, "c h w"], generator: torch.Generator) -> UInt8[Tensor, "c h w"]:
    """The image moved by up to an eighth of its size in each direction; what comes into view is its mirror image."""
    height, width = image.shape[1:]
    down, right = max(1, height // _BORDER), max(1, width // _BORDER)
    if down >= height or right >= width:  # too small to be mirrored at its edges
        return image
    rows = _moved(height, int(torch.randint(-down, down + 1, (), generator=generator)))
    columns = _moved(width, int(torch.randint(-right, right + 1, (), generator=generator)))
    return image.index_select(1, rows).index_select(2, columns)


def _moved(size: int, shift: int) -> Tensor:
    """The places ``shift`` to ``shift + size - 1``, mirrored at both ends."""
    places = torch.arange(shift, shift + size).abs_()
    return (size - 1) - (size - 1 - places).abs_()


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {"flip": flip, "crop": crop}
"""By the name that a configuration has."""

CONDITIONAL: Mapping[str, ConditionalAugmentation] = {"edm": GeometricAugmentation()}
"""Those that are a condition of the network."""
