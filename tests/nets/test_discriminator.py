"""The discriminator: any size and dimension, one number each, told the class or not, without state."""

from __future__ import annotations

import pytest
import torch

from unistep.core.condition import Label, Scalar
from unistep.nets.discriminator import DiscriminatorConfig


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 5), (2, 64), (1, 3), (2, 4, 6, 5), (1, 1, 1)])
def test_it_takes_signals_of_any_size_and_dimension(shape: tuple[int, ...]) -> None:
    net = DiscriminatorConfig(channels=shape[0], dims=len(shape) - 1, widths=(8, 16, 16), num_classes=3).build()
    x = torch.randn(5, *shape)
    score = net(x, {"label": Label(torch.tensor([0, 1, 2, -1, 0])), "guidance": Scalar(torch.ones(5))})
    assert score.shape == (5,)
    torch.testing.assert_close(net(x[1:3], {"label": Label(torch.tensor([1, 2]))}), score[1:3])  # no eye on the batch
    score.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert not list(net.buffers())


def test_the_class_counts_and_none_is_no_class() -> None:
    net = DiscriminatorConfig(widths=(8, 16), num_classes=3).build()
    x = torch.randn(2, 1, 8, 8)
    told, untold = net(x, {"label": Label(torch.tensor([0, 2]))}), net(x)
    torch.testing.assert_close(told, untold)  # before training the class says nothing
    with torch.no_grad():
        torch.nn.init.normal_(net.label.table.weight)  # type: ignore[union-attr]
    assert not torch.allclose(net(x, {"label": Label(torch.tensor([0, 2]))}), net(x))
    torch.testing.assert_close(net(x, {"label": Label(torch.tensor([-1, -1]))}), net(x))


def test_it_learns_to_tell_two_textures_apart() -> None:
    """Stripes along one side from stripes along the other: the same values, in other places."""
    torch.manual_seed(0)
    net = DiscriminatorConfig(widths=(8, 16)).build()
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(8, 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(40):
        noise = 0.5 * torch.randn(2, 16, 1, 8, 8)
        loss = (
            torch.nn.functional.softplus(-net(stripes + noise[0])).mean()
            + torch.nn.functional.softplus(net(stripes.T + noise[1])).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    noise = 0.5 * torch.randn(2, 64, 1, 8, 8)
    assert (net(stripes + noise[0]) > 0).float().mean() > 0.95
    assert (net(stripes.T + noise[1]) < 0).float().mean() > 0.95


@pytest.mark.parametrize("options", [{"dims": 4}, {"channels": 0}, {"widths": ()}, {"widths": (8, 0)}])
def test_a_shape_that_is_none_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"dims must be 1, 2 or 3|channels and widths must be positive"):
        DiscriminatorConfig(**options)


def test_a_signal_of_another_shape_is_refused() -> None:
    net = DiscriminatorConfig(channels=1, dims=2, widths=(8,)).build()
    for x in (torch.randn(2, 3, 8, 8), torch.randn(2, 1, 8)):
        with pytest.raises(ValueError, match=r"takes \[b, 1, ...\] with 2 spatial sizes, got"):
            net(x)
