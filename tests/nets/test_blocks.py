"""Folding, resolution changes, embeddings and attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unistep.nets.attention import SelfAttention, attend
from unistep.nets.blocks import ResidualBlock, affine, depth_to_space, double, group_norm, halve, space_to_depth
from unistep.nets.embedding import LabelEmbedding, PositionalEmbedding

SHAPES = [(2, 3, 12), (2, 3, 12, 8), (2, 1, 4, 8, 12)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_folding_has_an_inverse(shape: tuple[int, ...], patch: int) -> None:
    x = torch.randn(shape)
    folded = space_to_depth(x, patch)
    dims = len(shape) - 2
    assert folded.shape == (shape[0], shape[1] * patch**dims, *(n // patch for n in shape[2:]))
    assert torch.equal(depth_to_space(folded, patch), x)


def test_folding_agrees_with_pytorch_in_two_dimensions() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(space_to_depth(x, 2), nn.functional.pixel_unshuffle(x, 2))
    assert torch.equal(depth_to_space(space_to_depth(x, 4), 4), x)


def test_folding_keeps_blocks_together() -> None:
    x = torch.arange(6.0).view(1, 1, 6)
    assert space_to_depth(x, 2).tolist() == [[[0, 2, 4], [1, 3, 5]]]


@pytest.mark.parametrize("shape", SHAPES)
def test_halving_averages_and_doubling_repeats(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert halve(x).shape == (*shape[:2], *(n // 2 for n in shape[2:]))
    torch.testing.assert_close(halve(x).mean(), x.mean())
    torch.testing.assert_close(halve(double(x)), x)


@pytest.mark.parametrize("channels", [1, 3, 4, 16, 24, 48, 64, 96, 100, 192])
def test_groups_divide_the_channels_and_hold_at_least_four(channels: int) -> None:
    norm = group_norm(channels)
    assert channels % norm.num_groups == 0
    assert norm.num_groups == 1 or channels // norm.num_groups >= 4
    assert norm(torch.randn(2, channels, 5)).isfinite().all()


def test_a_residual_block_starts_as_its_skip_connection() -> None:
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    same = ResidualBlock(2, 8, 8, 16, 0.0)
    assert torch.equal(same(x, embedding), x)
    wider = ResidualBlock(2, 8, 12, 16, 0.0)
    torch.testing.assert_close(wider(x, embedding), wider.skip(x))


def test_a_residual_block_without_an_embedding_is_two_normalised_convolutions() -> None:
    """The modulation starts as "times one, plus nothing", so a fresh block passes its signal."""
    block, x = ResidualBlock(2, 8, 8, 16, 0.0), torch.randn(2, 8, 4, 4)
    nn.init.normal_(block.conv_out.weight)  # type: ignore[arg-type]
    inner = block.norm_out(block.conv_in(nn.functional.silu(block.norm_in(x))))
    wanted = x + block.conv_out(nn.functional.silu(inner))
    torch.testing.assert_close(block(x, torch.randn(2, 16)), wanted)
    assert (wanted - x).abs().mean() > 0.1


def test_the_embedding_modulates_a_residual_block() -> None:
    block = ResidualBlock(1, 8, 8, 16, 0.0)
    for module in (block.modulation, block.conv_out):
        nn.init.normal_(module.weight)  # type: ignore[arg-type]
    x = torch.randn(1, 8, 6)
    assert not torch.allclose(block(x, torch.randn(1, 16)), block(x, torch.randn(1, 16)))


def test_positions_are_the_documented_sines_and_cosines() -> None:
    embedding = PositionalEmbedding(8, min_frequency=0.5, max_frequency=4.0)
    t = torch.tensor([-1.3, 0.7])
    frequencies = torch.tensor([0.5 * (4.0 / 0.5) ** (k / 3) for k in range(4)])
    angles = t[:, None] * frequencies
    torch.testing.assert_close(embedding(t), torch.cat([angles.cos(), angles.sin()], dim=1))


def test_positions_are_computed_in_full_precision_under_autocast_and_in_double() -> None:
    embedding = PositionalEmbedding(16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert embedding(torch.tensor([0.3])).dtype == torch.float32
    double_embedding = PositionalEmbedding(16).double()
    t = torch.tensor([0.3, 0.3 + 1e-12], dtype=torch.float64)
    first, second = double_embedding(t)
    assert first.dtype == torch.float64
    assert not torch.equal(first, second)


def test_positions_refuse_an_odd_or_tiny_dimension() -> None:
    for dim in (2, 7):
        with pytest.raises(ValueError, match=f"even and at least 4, got {dim}"):
            PositionalEmbedding(dim)


def test_any_negative_label_is_none() -> None:
    embedding = LabelEmbedding(3, 4)
    out = embedding(torch.tensor([-1, -7, 0, 2]))
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], embedding.table.weight[3])
    assert torch.equal(out[2], embedding.table.weight[0])
    assert torch.equal(out[3], embedding.table.weight[2])


def test_attention_is_softmax_attention_with_and_without_a_forward_derivative() -> None:
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (5, 7, 7))
    wanted = ((q @ k.transpose(-1, -2)) / 8**0.5).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v), wanted)
    inside, _ = torch.func.jvp(lambda q: attend(q, k, v), (q,), (torch.randn_like(q),))
    torch.testing.assert_close(inside, wanted)


def test_attention_is_equivariant_to_the_order_of_positions() -> None:
    mixer = SelfAttention(32, head_dim=16)
    nn.init.normal_(mixer.out.weight)
    x, order = torch.randn(2, 32, 9), torch.randperm(9)
    torch.testing.assert_close(mixer(x)[..., order], mixer(x[..., order]))
    assert (mixer(x) - x).abs().mean() > 0.1


def test_attention_refuses_channels_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="divisible by head_dim, got 96 and 64"):
        SelfAttention(96, head_dim=64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_and_summands_broadcast(dtype: torch.dtype, generator: torch.Generator) -> None:
    x, scale, shift = (
        torch.randn(*n, generator=generator).to(dtype) for n in ((2, 3, 4, 4), (2, 3, 1, 1), (2, 3, 1, 1))
    )
    wanted = x.double() * scale.double() + shift.double()
    # Product and sum are rounded once each.
    atol = 2 * torch.finfo(dtype).eps * ((x * scale).abs() + shift.abs()).max().item()
    torch.testing.assert_close(affine(x, scale, shift).double(), wanted, rtol=0, atol=atol)
    torch.testing.assert_close(torch.addcmul(shift, x, scale).double(), wanted, rtol=0, atol=atol)
