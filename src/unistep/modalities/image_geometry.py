"""EDM's augmentation of images: flips, scalings, a rotation and a translation, which are a condition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from unistep.modalities.augmentation import ConditionalAugmentation

_SCALING = 0.2  # standard deviation of a scaling, in octaves
_TRANSLATION = 0.125  # standard deviation of a translation, as a part of the size


@final
@dataclass(frozen=True, kw_only=True)
class GeometricAugmentation(ConditionalAugmentation):
    r"""Flips, scalings, rotations and translations of an image, and the vector of nine numbers that describes them.

    In this order, with the numbers that say what was done:

    - 1: left and right exchanged, with probability 1/2, always;
    - 2: top and bottom exchanged, with probability 1/2;
    - 3: scaling by :math:`2^{0.2 n}`, :math:`n` normal;
    - 4, 5: rotation by :math:`\theta` counter-clockwise, even in :math:`[-\pi, \pi]`:
      :math:`\cos\theta - 1, \sin\theta`;
    - 6, 7: stretching by :math:`2^{0.2 n}` along :math:`\phi` and squeezing across it, :math:`n` normal, :math:`\phi`
      zero or, with probability 1/2, even: :math:`n \cos 2\phi, n \sin 2\phi`;
    - 8, 9: translation to the right and down, in eighths of the size, both normal.

    All but the first happen with :attr:`probability` each. The angle of the stretching is doubled, unlike in the paper,
    since :math:`(n, \phi)` and :math:`(-n, \phi + \pi/2)` are one change: so the vector says all that was done, and
    one vector stands for one change. Values between pixels are linear (the paper's filters are longer); what comes into
    view is the mirror image. Flips alone are exact.

    References:
        Karras et al. 2022, arXiv 2206.00364, appendix F.2 and table 6; Karras et al. 2020, arXiv 2006.06676, appendix
        B, for the changes.
    """

    size: ClassVar[int] = 9

    def draw(self, generator: torch.Generator) -> Float[Tensor, "9"]:
        """Nine numbers; see the class."""
        happens = (torch.rand(5, generator=generator) < self.probability).tolist()
        left, top, theta, tilted, phi = torch.rand(5, generator=generator).tolist()
        scale, stretch, right, down = torch.randn(4, generator=generator).tolist()
        vector = [float(left < 0.5), *[0.0] * 8]
        if happens[0]:
            vector[1] = float(top < 0.5)
        if happens[1]:
            vector[2] = scale
        if happens[2]:
            angle = math.pi * (2 * theta - 1)
            vector[3:5] = math.cos(angle) - 1, math.sin(angle)
        if happens[3]:
            doubled = 2 * math.pi * phi if tilted < 0.5 else 0.0
            vector[5:7] = stretch * math.cos(doubled), stretch * math.sin(doubled)
        if happens[4]:
            vector[7:9] = right, down
        return torch.tensor(vector)

    def apply(self, item: Shaped[Tensor, "c h w"], vector: Float[Tensor, "9"]) -> Shaped[Tensor, "c h w"]:
        """An image changed as the vector says; whole numbers are rounded."""
        mirrored, upside_down, *rest = vector.tolist()
        flipped = [axis for axis, done in ((-1, mirrored), (-2, upside_down)) if done]
        item = item.flip(flipped) if flipped else item
        if not any(rest):
            return item
        height, width = item.shape[1:]
        grid = _sources(rest, height, width)
        moved = F.grid_sample(item[None].float(), grid, "bilinear", padding_mode="reflection", align_corners=True)[0]
        return moved.to(item.dtype) if item.is_floating_point() else moved.round_().to(item.dtype)


def _sources(numbers: list[float], height: int, width: int) -> Float[Tensor, "1 h w 2"]:
    """Where each pixel comes from, in units of half of the image from its centre, for :func:`grid_sample`.

    Args:
        numbers: The last seven of a vector.
        height: Rows.
        width: Columns.
    """
    scale, cosine, sine, along, across, right, down = numbers
    zoom = 2 ** (_SCALING * scale)
    cosine += 1
    # The stretching is the symmetric matrix whose logarithm is [[a, b], [b, -a]]; rows point down, so angles that are
    # counter-clockwise for the eye have the opposite sign.
    a, b = _SCALING * math.log(2) * along, -_SCALING * math.log(2) * across
    size = math.hypot(a, b)
    even, odd = math.cosh(size), math.sinh(size) / size if size else 1.0
    # From a pixel to its source, each change is undone, the last one first: x -> zoom^-1 R^-1 S^-1 (x - move).
    s = ((even - odd * a, -odd * b), (-odd * b, even + odd * a))
    r = ((cosine / zoom, -sine / zoom), (sine / zoom, cosine / zoom))
    m = [[r[i][0] * s[0][j] + r[i][1] * s[1][j] for j in range(2)] for i in range(2)]
    move = (_TRANSLATION * width * right, _TRANSLATION * height * down)
    half = torch.tensor([max(width - 1, 1) / 2, max(height - 1, 1) / 2])
    x = torch.arange(width) - (width - 1) / 2 - move[0]
    y = (torch.arange(height) - (height - 1) / 2 - move[1])[:, None]
    sources = [m[i][0] * x + m[i][1] * y for i in range(2)]
    return (torch.stack(sources, dim=-1) / half)[None]
