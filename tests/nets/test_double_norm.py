"""Double normalisation: scale and shift of unit size, so that the derivative in time cannot grow with the weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unistep.nets.blocks import ResidualBlock, pixel_norm
from unistep.nets.embedding import PositionalEmbedding
from unistep.nets.unet import UNet, UNetConfig


def network(**options: object) -> UNet:
    return UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=32, head_dim=8, **options).build()  # type: ignore[arg-type]


def filled(net: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    """With noise on all weights, so that no layer is zero."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(size * torch.randn_like(p))
    return net


def test_pixels_have_mean_square_one_along_the_channels() -> None:
    x = torch.randn(3, 5, 2, 2) * torch.tensor([1e-2, 1.0, 1e3]).view(3, 1, 1, 1)
    torch.testing.assert_close(pixel_norm(x).square().mean(dim=1), torch.ones(3, 2, 2), rtol=1e-3, atol=0)
    torch.testing.assert_close(F.cosine_similarity(pixel_norm(x), x, dim=1), torch.ones(3, 2, 2))
    assert pixel_norm(x.bfloat16()).dtype == torch.float32
    assert pixel_norm(x.double()).dtype == torch.float64
    assert pixel_norm(torch.zeros(1, 4)).tolist() == [[0] * 4]


def test_the_block_is_the_formula_of_the_paper() -> None:
    block = filled(ResidualBlock(2, 4, 8, 16, 0.0, double_norm=True))
    assert isinstance(block, ResidualBlock)
    x, embedding = torch.randn(3, 4, 6, 6), torch.randn(3, 16)
    s, b = (1 + block.modulation(embedding)[:, :8], block.modulation(embedding)[:, 8:])
    s, b = (v / v.square().mean(dim=1, keepdim=True).sqrt() for v in (s, b))
    h = block.norm_out(block.conv_in(F.silu(block.norm_in(x))))
    wanted = block.skip(x) + block.conv_out(F.silu(h * s[:, :, None, None] + b[:, :, None, None]))
    torch.testing.assert_close(block(x, embedding), wanted)


@pytest.mark.parametrize("scale", [0.5, 30.0])
def test_the_block_answers_the_direction_of_its_modulation_alone(scale: float) -> None:
    torch.manual_seed(0)
    double, single = (filled(ResidualBlock(1, 4, 4, 8, 0.0, double_norm=on), 0.3) for on in (True, False))
    x, embedding = torch.randn(2, 4, 9), torch.randn(2, 8)
    for block, same in ((double, True), (single, False)):
        before = block(x, embedding)
        with torch.no_grad():
            block.modulation.weight[4:] *= scale  # type: ignore[union-attr, index]
            block.modulation.bias[4:] *= scale  # type: ignore[union-attr, index]
        assert torch.allclose(block(x, embedding), before, rtol=1e-4, atol=1e-5) == same


def test_fresh_networks_start_as_without_it() -> None:
    """The block is its skip connection, the scale is one, and the shift already has a direction."""
    block = ResidualBlock(2, 8, 8, 16, 0.0, double_norm=True)
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    assert torch.equal(block(x, embedding), x)
    scale, shift = block.modulation(embedding).chunk(2, dim=1)
    assert not scale.any()
    assert (shift.norm(dim=1) > 1e-2).all()
    block(x, embedding).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


def test_without_it_networks_are_what_they_were() -> None:
    """The same draws, the same parameters; the option changes the modulation's start alone."""
    torch.manual_seed(0)
    plain, after = network(), torch.rand(1)
    torch.manual_seed(0)
    double, after_double = network(double_norm=True), torch.rand(1)
    assert torch.equal(after, after_double)
    assert not UNetConfig().double_norm
    theirs = double.state_dict()
    assert plain.state_dict().keys() == theirs.keys()
    different = {name for name, value in plain.state_dict().items() if not torch.equal(value, theirs[name])}
    assert different == {name for name in theirs if name.endswith("modulation.weight")}
    blocks = [m for m in plain.modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == 6
    assert not any(m.modulation.weight.any() or m.modulation.bias.any() for m in blocks)


def time_derivative(net: UNet, x: Tensor, t: Tensor) -> float:
    """Size of the derivative in the time code, against the size of the output."""
    value, tangent = torch.func.jvp(lambda t: net(x, t), (t,), (torch.ones_like(t),))
    return float((tangent.norm() / value.norm()).detach())


def test_large_modulations_do_not_make_the_derivative_in_time_large() -> None:
    torch.manual_seed(0)
    x, t = torch.randn(4, 1, 8, 8), torch.linspace(-1.0, 1.0, 4)
    growth = {}
    for on in (True, False):
        net = filled(network(double_norm=on), 0.05)
        before = time_derivative(net, x, t)  # type: ignore[arg-type]
        with torch.no_grad():
            for block in net.modules():
                if isinstance(block, ResidualBlock):
                    block.modulation.weight *= 50
                    block.modulation.bias *= 50
        growth[on] = time_derivative(net, x, t) / before  # type: ignore[arg-type]
    assert growth[False] > 3 * growth[True]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_works_in_all_dimensions_under_autocast_and_forward_mode(dims: int) -> None:
    net = filled(network(double_norm=True, dims=dims))
    x, t = torch.randn(2, 1, *[8] * dims), torch.randn(2)
    value, tangent = torch.func.jvp(lambda x, t: net(x, t), (x, t), (x, torch.ones_like(t)))
    h = 1e-3
    with torch.no_grad():
        difference = (net(x + h * x, t + h) - net(x - h * x, t - h)) / (2 * h)
        torch.testing.assert_close(net(x, t), value.detach())
    assert float((tangent.detach() - difference).norm() / difference.norm()) < 0.02
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net(x, t).float()
    assert float((rounded - value).detach().norm() / value.detach().norm()) < 0.05


def test_the_positional_embedding_moves_slowly_enough() -> None:
    r"""Along a trajectory the time code moves at the rate 1/4 times :math:`\cos t \sin t\,\mathrm{d}t`.

    Its features then move about as much as they are large; Fourier features of scale 16 (EDM2's) move 25 times faster.
    """
    embedding, code = PositionalEmbedding(256), torch.linspace(-2.5, 2.5, 101)
    value, tangent = torch.func.jvp(embedding, (code,), (torch.full_like(code, 0.25),))
    ratio = float(tangent.square().mean().sqrt() / value.square().mean().sqrt())
    assert 0.5 < ratio < 1.5
    frequencies = 2 * torch.pi * 16 * torch.randn(128, generator=torch.Generator().manual_seed(0))
    assert float(frequencies.square().mean().sqrt()) / 4 > 15 * ratio
