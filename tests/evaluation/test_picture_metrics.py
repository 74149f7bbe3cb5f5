from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unistep.evaluation.picture_metrics import MOST, psnr, ssim


def pictures(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two smooth pictures each of 20 by 24 pixels, and noisy ones of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 5, 6, generator=generator) * 2 - 1
    a = torch.nn.functional.interpolate(coarse, (20, 24), mode="bilinear")
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)


def test_the_psnr_of_a_constant_error_is_known() -> None:
    a = torch.zeros(2, 3, 12, 12)
    b = torch.stack([a[0] + 0.2, a[1] - 0.02])
    assert psnr(a, b).tolist() == pytest.approx([20.0, 40.0], rel=1e-5)


def test_pictures_that_differ_in_one_value_of_one_pixel_are_below_the_most() -> None:
    a = torch.zeros(1, 3, 64, 64)
    b = a.clone()
    b[0, 0, 0, 0] = 2 / 255
    assert psnr(a, a).item() == MOST
    assert psnr(a, b).item() == pytest.approx(10 * math.log10(4 * a.numel() / (2 / 255) ** 2), rel=1e-6)
    assert psnr(a, b).item() < MOST


def test_the_ssim_of_even_pictures_is_that_of_their_levels() -> None:
    a, b = torch.full((1, 1, 11, 11), 0.5), torch.full((1, 1, 11, 11), -0.25)
    c_1 = (0.01 * 2) ** 2
    assert ssim(a, b).item() == pytest.approx((2 * 0.5 * -0.25 + c_1) / (0.5**2 + 0.25**2 + c_1), abs=1e-6)


def test_the_ssim_of_equal_pictures_is_1_and_symmetric() -> None:
    a, b = pictures()
    assert ssim(a, a).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert torch.allclose(ssim(a, b), ssim(b, a), atol=1e-6)
    assert (ssim(a, b) < 0.9).all()


def test_the_ssim_is_that_of_torchmetrics() -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is missing: pip install 'unistep[eval]'")
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = pictures(1)
    _, at_each = structural_similarity_index_measure(
        a.double(), b.double(), data_range=2.0, reduction="none", return_full_image=True
    )
    inside = at_each[..., 5:-5, 5:-5]  # theirs goes on over the edge, where the picture is mirrored
    assert ssim(a, b).tolist() == pytest.approx(inside.mean(dim=(1, 2, 3)).tolist(), abs=1e-6)


def test_pictures_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 12 x 8"):
        ssim(torch.zeros(1, 1, 8, 12), torch.zeros(1, 1, 8, 12))
