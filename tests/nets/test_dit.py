"""The diffusion transformer: shapes, positions, its formulas, growth and mistakes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tolerance import rounding
from unistep.core.condition import Label, Tokens
from unistep.nets.dit import DiT, DiTConfig
from unistep.nets.positions import absolute_positions, rotary_angles, rotate
from unistep.nets.transformer import RotaryAttention, to_tokens
from unistep.training.muon import hidden_matrices

SMALL: dict[str, Any] = {"width": 24, "depth": 2, "head_dim": 12, "embedding_dim": 16}


def trained(config: DiTConfig) -> DiT:
    """A network in evaluation mode none of whose layers is zero."""
    torch.manual_seed(0)
    net = config.build().eval()
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("positions", ["rotary", "absolute", "both"])
def test_shapes_in_every_dimension(dims: int, patch: int, positions: Any) -> None:
    config = DiTConfig(channels=3, dims=dims, patch=patch, positions=positions, **SMALL)
    x = torch.randn(2, 3, *(4, 8, 8)[-dims:])
    y = trained(config)(x, torch.randn(2))
    assert y.shape == x.shape
    assert y.std() > 0


def test_the_parameter_count_is_that_of_the_layers() -> None:
    """Counted by hand for one block without conditions."""
    w, e, folded, hidden, head = 8, 4, 12, 16, 4
    config = DiTConfig(channels=3, patch=2, width=w, depth=1, head_dim=head, embedding_dim=e, mlp_ratio=2.0)
    attention = (w + 1) * 3 * w + 2 * head + (w + 1) * w
    block = (e + 1) * 6 * w + attention + (w + 1) * hidden + (hidden + 1) * w
    ends = (folded + 1) * w + (e + 1) * 2 * w + (w + 1) * folded
    assert sum(p.numel() for p in config.build().parameters()) == 2 * (e + 1) * e + block + ends


def test_turned_queries_and_keys_know_differences_of_positions_only() -> None:
    r"""In two dimensions, :math:`\langle R_p q, R_m k\rangle = \langle R_{p+a} q, R_{m+a} k\rangle`."""
    sizes, dim = (5, 6), 12
    angles = rotary_angles(sizes, dim, torch.device("cpu")).double()
    assert angles.shape == (30, dim // 2)
    q, k = torch.randn(2, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = [rotate(u.expand(30, dim), angles.cos(), angles.sin()).view(*sizes, dim) for u in (q, k)]
    products = torch.einsum("abd,efd->abef", *turned)
    for a, b in ((1, 0), (0, 1), (2, 3)):
        shifted = products[a:, b:, a:, b:]
        torch.testing.assert_close(shifted, products[: 5 - a, : 6 - b, : 5 - a, : 6 - b], rtol=0, atol=1e-5)
    assert (products[0, 0] - products[0, 0, 0, 0]).abs().flatten()[1:].min() > 1e-3
    # Where nothing moves, nothing is turned, and turning keeps lengths.
    torch.testing.assert_close(turned[0][0, 0], q)
    torch.testing.assert_close(turned[0].norm(dim=-1), q.norm().expand(sizes))


def test_the_angles_are_those_of_the_paper() -> None:
    """For one axis, theta of pair k is the position times base**(-k / pairs)."""
    angles = rotary_angles((7,), 8, torch.device("cpu"))
    wanted = torch.tensor([[p * 100.0 ** (-k / 4) for k in range(4)] for p in range(7)])
    torch.testing.assert_close(angles, wanted)
    # Ten features in three axes: a pair for each axis, and two that stay.
    still = rotary_angles((2, 2, 2), 10, torch.device("cpu"))
    assert still.shape == (8, 5)
    assert still[7].tolist() == [1, 1, 1, 0, 0]


def test_absolute_positions_differ_and_are_separable() -> None:
    table = absolute_positions((4, 5), 26, torch.device("cpu")).view(4, 5, 26)
    assert torch.cdist(table.view(20, -1), table.view(20, -1)).add(torch.eye(20) * 9).min() > 0.1
    torch.testing.assert_close(table[0, :, :12], table[3, :, :12] * 0 + table[0, 0, :12])
    assert not table[..., 24:].any()


def test_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = RotaryAttention(8, 4).double()
    nn.init.uniform_(layer.norm_q.weight)
    x = torch.randn(1, 3, 8, dtype=torch.float64)
    angles = rotary_angles((3,), 4, torch.device("cpu")).double()
    q, k, v = layer.qkv(x)[0].chunk(3, dim=-1)
    mixed = []
    for head in (slice(0, 4), slice(4, 8)):
        turned = []
        for u, norm in ((q, layer.norm_q), (k, layer.norm_k)):
            u = u[:, head]
            u = (u - u.mean(-1, keepdim=True)) / (u.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * norm.weight
            turned.append(rotate(u, angles.cos(), angles.sin()))
        mixed.append((turned[0] @ turned[1].T / math.sqrt(4)).softmax(-1) @ v[:, head])
    wanted = layer.out(torch.cat(mixed, dim=-1))
    got = layer(x, (angles.cos(), angles.sin()))[0]
    torch.testing.assert_close(got, wanted, rtol=0, atol=rounding(64, 8.0, torch.float64))


def test_rotary_positions_serve_other_sizes() -> None:
    """A picture that is repeated twice: to each patch, the other copy looks like a patch further away."""
    net = trained(DiTConfig(patch=2, **SMALL))
    x = torch.randn(1, 1, 8, 8)
    small, large = net(x, torch.zeros(1)), net(torch.cat([x, 0 * x], dim=-1), torch.zeros(1))
    assert large.shape == (1, 1, 8, 16)
    assert not torch.allclose(large[..., :8], small, atol=1e-3)  # attention reaches everywhere


def test_a_deeper_network_starts_as_the_shallower_one() -> None:
    shallow, deep = DiTConfig(**SMALL), DiTConfig(**{**SMALL, "depth": 5})
    theirs, ours = trained(shallow), deep.build().eval()
    assert deep.differences(shallow) == []
    assert shallow.differences(deep) == ["depth 5 instead of 2"]
    deep.start_from(ours, theirs.state_dict(), shallow)
    x, t = torch.randn(2, 1, 8, 8), torch.randn(2)
    torch.testing.assert_close(ours(x, t), theirs(x, t), rtol=0, atol=0)
    assert deep.differences(replace(shallow, width=48)) == ["width 48 instead of 24"]


def test_levels_of_patches_are_those_of_their_tokens() -> None:
    features = torch.randn(2, 3, 1, 5)
    tokens = to_tokens(features, (3, 4)).view(2, 3, 4, 5)
    torch.testing.assert_close(tokens, features.expand(2, 3, 4, 5), rtol=0, atol=0)
    assert to_tokens(features[:, :1], (3, 4)).shape == (2, 1, 5)
    assert to_tokens(features[:, 0, 0], (3, 4)).shape == (2, 1, 5)


def test_normalised_scales_and_shifts_stay_bounded() -> None:
    """However large the weights that make them; so the answer to a change of the time is bounded as well."""
    found = []
    for double_norm in (False, True):
        net = trained(DiTConfig(double_norm=double_norm, **SMALL))
        for block in net.blocks:
            block.modulation.linear.weight.data *= 100  # type: ignore[union-attr, operator]
        scales, shifts, _ = net.blocks[0].modulation(torch.ones(1, 16), (1, 1))  # type: ignore[operator]
        found.append(max(float(p.detach().square().mean().sqrt()) for p in (*scales, *shifts)))
    assert found[0] > 5
    assert found[1] < 1 + 1e-5


def test_muon_takes_the_matrices_of_the_blocks() -> None:
    net = DiTConfig(num_classes=3, tokens={"text": 5}, **SMALL).build()
    names = {id(p): name for name, p in net.named_parameters()}
    hidden = {names[id(p)] for p in hidden_matrices(net)}
    assert hidden
    assert all(name.startswith("blocks.") for name in hidden)
    wanted = {"attention.qkv.weight", "up.weight", "modulation.linear.weight"}
    assert {name.split(".", 2)[2] for name in hidden} >= wanted


def test_tokens_that_do_not_count_change_nothing() -> None:
    net = trained(DiTConfig(tokens={"text": 5}, num_classes=2, **SMALL))
    x, t, mask = torch.randn(2, 1, 8, 8), torch.randn(2), torch.tensor([[True, False], [True, True]])
    tokens = torch.randn(2, 2, 5)
    noisy = torch.where(mask[..., None], tokens, 1e3)
    condition: dict[str, Any] = {"label": Label(torch.tensor([0, -1]))}
    got = [net(x, t, None, condition | {"text": Tokens(u, mask)}) for u in (tokens, noisy)]
    torch.testing.assert_close(got[0], got[1])


def test_dropout_acts_in_training_only() -> None:
    net = trained(DiTConfig(dropout=0.5, **SMALL))
    x, t = torch.randn(2, 1, 8, 8), torch.randn(2)
    torch.testing.assert_close(net(x, t), net(x, t), rtol=0, atol=0)
    assert not torch.allclose(net.train()(x, t), net(x, t))


def test_it_learns_where_things_are() -> None:
    """From noise alone, a constant gradient of grey: which a network without positions cannot give."""

    def error(positions: Any) -> float:
        torch.manual_seed(0)
        net = DiTConfig(patch=2, positions=positions, **SMALL).build()
        wanted = torch.linspace(-1, 1, 8).expand(8, 1, 8, 8)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(1)
        loss = Tensor()
        for _ in range(60):
            x = 0.1 * torch.randn(8, 1, 8, 8, generator=generator)
            loss = (net(x, torch.zeros(8)) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    assert error("absolute") < 0.03 < error("rotary")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 25}, "width must be a multiple of head_dim, got 25 and 12"),
        ({"head_dim": 3}, "rotary positions in 2 dimensions need an even head_dim of at least 4, got 3"),
        ({"head_dim": 4, "dims": 3}, "rotary positions in 3 dimensions need an even head_dim of at least 6, got 4"),
        ({"depth": 0}, "patch, width and depth must be positive"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must be positive and finite, got 0"),
        ({"positions": "learned"}, "positions must be 'rotary', 'absolute' or 'both', got 'learned'"),
        ({"context": 3}, "context must be 0 or a multiple of 4"),
        ({"vocabularies": {"label": 3}}, "conditions need names of their own"),
    ],
)
def test_an_impossible_shape_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiTConfig(**{**SMALL, **options})


def test_a_signal_that_does_not_fit_is_refused_with_its_shape() -> None:
    net = DiTConfig(patch=8, **SMALL).build()
    with pytest.raises(ValueError, match=r"2 spatial sizes that are multiples of 8, got \(2, 1, 8, 12\)"):
        net(torch.zeros(2, 1, 8, 12), torch.zeros(2))
