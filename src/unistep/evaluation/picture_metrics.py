"""How far one picture is from another, value by value and by structure: PSNR and SSIM."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW, DEVIATION = 11, 1.5
"""Side and standard deviation of the Gaussian window of the SSIM, in pixels."""
MOST = 100.0
"""PSNR of equal pictures, in decibels; of 8-bit pictures that differ it is below that."""
_RANGE = 2.0  # from the smallest value to the largest


def psnr(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    r"""Peak signal-to-noise ratio in decibels, :math:`10 \log_{10} (2^2 / \mathrm{MSE})`, at most :data:`MOST`.

    Args:
        a: Pictures in [-1, 1].
        b: As many others.
    """
    error = (a.double() - b.double()).square().flatten(1).mean(dim=1)
    return (10 * (_RANGE**2 / error).log10()).clamp_max(MOST).float()


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    r"""Structural similarity, the mean over channels and over all places where the window lies inside the picture.

    .. math:: \frac{(2 \mu_a \mu_b + C_1)(2 \sigma_{ab} + C_2)}
              {(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)}, \quad
              C_1 = (0.01 L)^2, \quad C_2 = (0.03 L)^2, \quad L = 2

    Args:
        a: Pictures in [-1, 1], of at least 11 pixels to a side.
        b: As many others.

    Raises:
        ValueError: If the pictures are smaller than the window.

    References:
        Wang, Bovik, Sheikh & Simoncelli 2004, "Image quality assessment: from error visibility to structural
        similarity", equation 13, with the window of section III.C.
    """
    if min(a.shape[2:]) < WINDOW:
        height, width = a.shape[2:]
        raise ValueError(f"SSIM needs pictures of at least {WINDOW} x {WINDOW} pixels, got {width} x {height}")
    count = len(a)
    a, b = a.double().flatten(0, 1), b.double().flatten(0, 1)  # each channel by itself
    at = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    weights = (-at.square() / (2 * DEVIATION**2)).exp()
    weights = weights / weights.sum()
    values = torch.stack([a, b, a * a, b * b, a * b])
    down = F.conv2d(values.flatten(0, 1)[:, None], weights.view(1, 1, -1, 1))
    means = F.conv2d(down, weights.view(1, 1, 1, -1)).unflatten(0, (5, -1))
    mean_a, mean_b, square_a, square_b, product = means
    c_1, c_2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
    structure = 2 * (product - mean_a * mean_b) + c_2
    structure = structure / (square_a - mean_a.square() + square_b - mean_b.square() + c_2)
    levels = (2 * mean_a * mean_b + c_1) / (mean_a.square() + mean_b.square() + c_1)
    return (levels * structure).view(count, -1).mean(dim=1).float()
