"""Blocks at full resolution after a U-Net on patches: they begin without effect, see neighbours, and may be added."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from unistep.core.condition import Label
from unistep.nets.unet import UNet
from unistep.nets.unet_config import UNetConfig
from unistep.training.muon import hidden_matrices

SMALL = {"widths": (16, 32), "blocks": (1, 1), "embedding_dim": 32, "head_dim": 16, "patch": 4, "channels": 3}


def with_head(config: UNetConfig, width: int = 8) -> UNetConfig:
    return replace(config, fine_width=width, fine_blocks=2)


def loud(net: nn.Module) -> nn.Module:
    """The network with no layer at zero."""
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return net.eval()


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("beside", [{}, {"context": 8}, {"margin": 8}])
def test_it_begins_without_effect_on_a_trained_network(dims: int, beside: dict[str, int]) -> None:
    size = 8 if dims == 3 else 16
    config = UNetConfig(dims=dims, num_classes=3, **SMALL, **beside)
    plain, fine = loud(config.build()), with_head(config).build().eval()
    assert not with_head(config).differences(config)
    with_head(config).start_from(fine, plain.state_dict(), config)
    x, t = torch.randn(3, 3, *[size] * dims), torch.randn(3)
    told: dict[str, object] = {"label": Label(torch.tensor([0, 2, -1]))}
    torch.testing.assert_close(fine(x, t, None, told), plain(x, t, None, told))
    loud(fine)
    assert fine(x, t, None, told).shape == x.shape
    assert (fine(x, t, None, told) - plain(x, t, None, told)).abs().amin() > 0


def test_it_sees_times_labels_and_the_features_of_the_network() -> None:
    """With the output of the body at zero, whatever comes out comes through the head."""
    net = loud(with_head(UNetConfig(num_classes=3, **SMALL)).build())
    for layer in (net.output, net.fine_head.input):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.randn(1, 3, 16, 16)
    first = net(x, torch.zeros(1), None, {"label": Label(torch.tensor([0]))})
    assert not torch.equal(first, net(x, torch.ones(1), None, {"label": Label(torch.tensor([0]))}))
    assert not torch.equal(first, net(x, torch.zeros(1), None, {"label": Label(torch.tensor([1]))}))
    assert not torch.equal(first, net(-x, torch.zeros(1), None, {"label": Label(torch.tensor([0]))}))


def test_it_is_as_fine_as_the_signal() -> None:
    """A body that is silenced leaves a function that moves with the signal by single positions, away from the edges.

    Without it, only a shift by whole patches would do that.
    """
    config = replace(with_head(UNetConfig(**SMALL)), fine_blocks=1)
    net = loud(config.build())
    for layer in (net.output, net.fine_head.unfold):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    for module in net.fine_head.modules():  # whose means are those of the whole signal
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda x: x  # type: ignore[method-assign]
    x, t = torch.zeros(1, 3, 32, 32), torch.zeros(1)
    x[..., 12:20, 12:20] = torch.randn(3, 8, 8)
    moved = net(x.roll((1, 2), (2, 3)), t)
    torch.testing.assert_close(moved[..., 6:26, 6:26], net(x, t).roll((1, 2), (2, 3))[..., 6:26, 6:26])


def test_a_forward_derivative_agrees_with_finite_differences() -> None:
    net = loud(with_head(UNetConfig(attention=(1,), **SMALL)).build()).double()
    x, t = torch.randn(2, 3, 8, 8).double(), torch.randn(2).double()
    dx, dt, h = torch.randn_like(x), torch.ones_like(t), 1e-5
    _, tangent = torch.func.jvp(net, (x, t), (dx, dt))
    numeric = (net(x + h * dx, t + h * dt) - net(x - h * dx, t - h * dt)) / (2 * h)
    torch.testing.assert_close(tangent, numeric, rtol=1e-5, atol=1e-7)


def test_its_first_and_last_layers_are_not_hidden() -> None:
    net = with_head(UNetConfig(**SMALL)).build()
    hidden = {id(p) for p in hidden_matrices(net)}
    named = dict(net.named_parameters())
    assert id(named["fine_head.input.weight"]) not in hidden
    assert id(named["fine_head.output.weight"]) not in hidden
    assert id(named["fine_head.blocks.0.conv_in.weight"]) in hidden
    assert {"fine_head.input", "fine_head.output"} <= set(UNet.boundary_layers)


@pytest.mark.parametrize("options", [{"fine_width": -1}, {"fine_width": 8, "fine_blocks": 0}])
def test_an_impossible_head_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="fine_width must be 0 or positive and fine_blocks at least 1"):
        UNetConfig(**options)


def test_it_is_described() -> None:
    assert with_head(UNetConfig(**SMALL)).described.endswith("4x4 space-to-depth, 2 blocks of 8 at full resolution")
