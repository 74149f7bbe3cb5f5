"""Muon against the singular value decomposition and against PyTorch's own; its other half against Adam."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unistep.nets.unet import UNetConfig
from unistep.training.muon import Muon, hidden_matrices, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (64, 65), (3, 576)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_singular_values_are_pushed_to_one(shape: tuple[int, int], scale: float, generator: torch.Generator) -> None:
    g = scale * torch.randn(4, *shape, generator=generator)
    # The iteration needs singular values that are not minute beside the norm, as gradients of full rank have.
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    g = u @ torch.diag_embed(s.clamp(min=0.05 * float(s.max()))) @ vt
    after = orthogonalise(g)
    values = torch.linalg.svdvals(after)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The directions stay: u and v of the answer are those of the gradient.
    aligned = u.mT @ after @ vt.mT
    assert (aligned - torch.diag_embed(aligned.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


def test_a_stack_is_treated_one_by_one(generator: torch.Generator) -> None:
    stack = torch.randn(3, 6, 10, generator=generator)
    together = orthogonalise(stack)
    for matrix, answer in zip(stack, together, strict=True):
        assert torch.allclose(orthogonalise(matrix[None])[0], answer, atol=1e-5)
    assert torch.allclose(orthogonalise(stack.mT).mT, together, atol=1e-5)


def test_a_zero_gradient_gives_a_zero_update() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_it_is_pytorchs_muon(shape: tuple[int, int], generator: torch.Generator) -> None:
    """PyTorch's (from 2.9 on) runs the iteration in bfloat16 and knows matrices only; else it is the same formula."""
    theirs = getattr(torch.optim, "Muon", None)
    start, steps = torch.randn(shape, generator=generator), 6
    gradients = torch.randn(steps, *shape, generator=generator)
    ours = nn.Parameter(start.clone())
    optimizer = Muon([ours], [], lr=0.02, momentum=0.9, weight_decay=0.1)
    for gradient in gradients:
        ours.grad = gradient.clone()
        optimizer.step()
    expected = start.clone()
    if theirs is not None:
        other = nn.Parameter(start.clone())
        reference = theirs([other], lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            other.grad = gradient.clone()
            reference.step()
        expected = other.detach()
    else:  # the formula by hand, with the exact polar factor's neighbour from the same iteration
        momentum = torch.zeros(shape)
        for gradient in gradients:
            momentum = 0.9 * momentum + 0.1 * gradient
            update = orthogonalise((0.1 * gradient + 0.9 * momentum)[None])[0]
            expected = expected * (1 - 0.02 * 0.1) - 0.02 * 0.2 * max(shape) ** 0.5 * update
    moved = (expected - start).norm()
    assert (ours.detach() - expected).norm() < 0.02 * moved


def test_a_convolution_is_a_matrix_of_its_filters(generator: torch.Generator) -> None:
    start, gradient = torch.randn(2, 8, 4, 3, 3, generator=generator)
    kernel = nn.Parameter(start.clone(memory_format=torch.channels_last))
    matrix = nn.Parameter(start.flatten(1).clone())
    for p in (kernel, matrix):
        p.grad = gradient.view(p.shape).contiguous(
            memory_format=torch.channels_last if p.ndim == 4 else torch.contiguous_format
        )
        Muon([p], []).step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)
    # The root mean square of the update is a fifth of the rate, as Adam's typically is.
    change = (kernel.detach() - start * (1 - 3e-3 * 0.01)).square().mean().sqrt()
    assert float(change) == pytest.approx(0.2 * 3e-3, rel=0.2)


def test_the_other_parameters_get_adam(generator: torch.Generator) -> None:
    start = torch.randn(30, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = Muon([], [ours], adam_lr=0.01, betas=(0.8, 0.95))
    reference = torch.optim.Adam([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-8)
    for _ in range(10):
        gradient = torch.randn(30, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_parameters_without_a_gradient_stay(generator: torch.Generator) -> None:
    matrix, bias = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    optimizer = Muon([matrix], [bias])
    assert optimizer.step(lambda: 1.5) == 1.5
    assert torch.equal(matrix, torch.ones(3, 3))
    assert torch.equal(bias, torch.ones(3))
    assert not optimizer.state


def test_the_edges_of_the_network_are_left_to_adam() -> None:
    net = UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16, num_classes=3).build()
    hidden = {id(p) for p in hidden_matrices(net, net.edges)}
    inside = {name for name, p in net.named_parameters() if id(p) in hidden}
    assert inside
    assert all(name.split(".")[0] in ("down", "middle", "up") for name in inside)
    assert all(p.ndim < 2 for name, p in net.named_parameters() if name not in inside and name.startswith("middle"))
