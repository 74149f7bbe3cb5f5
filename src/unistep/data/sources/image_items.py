"""Images that a source has in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unistep.modalities.base import Decoded
from unistep.modalities.image_options import ImageOptions
from unistep.modalities.image_reading import fit_picture, to_planes

if TYPE_CHECKING:
    from PIL import Image


def array_image(array: np.ndarray, options: ImageOptions, shape: tuple[int, int, int]) -> Decoded:
    """An image from pixels ``[h, w, c]`` or ``[h, w]``, uint8, brought to ``shape`` = ``[c, h, w]``."""
    from PIL import Image

    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if planes.shape == shape:
        return Decoded(values=np.ascontiguousarray(planes))
    image = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    image = image.convert("L" if shape[0] == 1 else "RGB")
    return Decoded(values=to_planes(fit_picture(image, shape[1:], options.fit, options.background)))


def transparent_image(image: Image.Image, options: ImageOptions, shape: tuple[int, int, int]) -> Decoded:
    """A transparent image (RGBA) laid on the background and brought to ``shape`` = ``[c, h, w]``."""
    from PIL import Image

    ground = Image.new("RGBA", image.size, options.background)
    ground.alpha_composite(image)
    laid = ground.convert("L" if shape[0] == 1 else "RGB")
    return Decoded(values=to_planes(fit_picture(laid, shape[1:], options.fit, options.background)))
