"""Muon against the singular value decomposition and against PyTorch's own, and which parameters it gets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import forks
from unistep.nets.unet import UNetConfig
from unistep.training import muon
from unistep.training.muon import QUINTIC, Muon, hidden_matrices, orthogonalise, orthogonalise_all, shares


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
    """PyTorch's runs the iteration in bfloat16 and knows matrices only; else it is the same formula."""
    start, steps = torch.randn(shape, generator=generator), 6
    gradients = torch.randn(steps, *shape, generator=generator)
    ours = nn.Parameter(start.clone())
    optimizer = Muon([ours], lr=0.02, momentum=0.9, weight_decay=0.1)
    for gradient in gradients:
        ours.grad = gradient.clone()
        optimizer.step()
    other = nn.Parameter(start.clone())
    reference = torch.optim.Muon([other], lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        other.grad = gradient.clone()
        reference.step()
    expected = other.detach()
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
        Muon([p]).step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)
    # The root mean square of the update is a fifth of the rate, as Adam's typically is.
    change = (kernel.detach() - start * (1 - 3e-3 * 0.01)).square().mean().sqrt()
    assert float(change) == pytest.approx(0.2 * 3e-3, rel=0.2)


def test_parameters_without_a_gradient_stay() -> None:
    matrix = nn.Parameter(torch.ones(3, 3))
    optimizer = Muon([matrix])
    assert optimizer.step(lambda: 1.5) == 1.5
    assert torch.equal(matrix, torch.ones(3, 3))
    assert not optimizer.state


def test_the_boundary_layers_of_a_network_are_left_to_adam() -> None:
    net = UNetConfig(widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=16, num_classes=3).build()
    hidden = {id(p) for p in hidden_matrices(net)}
    inside = {name for name, p in net.named_parameters() if id(p) in hidden}
    assert inside
    assert all(name.split(".")[0] in ("down", "middle", "up") for name in inside)
    assert all(p.ndim < 2 for name, p in net.named_parameters() if name not in inside and name.startswith("middle"))


def test_a_network_that_names_no_boundary_keeps_its_ends_tables_and_norms_from_muon() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 4, 4]), nn.Embedding(5, 8), nn.Conv2d(8, 8, 3), nn.Linear(8, 6),
        nn.Linear(6, 2),
    )  # fmt: skip
    net.register_parameter("positions", nn.Parameter(torch.ones(1, 7, 8)))
    hidden = {id(p) for p in hidden_matrices(net)}
    assert {name for name, p in net.named_parameters() if id(p) in hidden} == {"3.weight", "4.weight"}
    assert hidden_matrices(nn.Linear(3, 3)) == []


@pytest.mark.parametrize("processes", [1, 2, 3, 40])
def test_the_work_is_dealt_out_evenly(processes: int, generator: torch.Generator) -> None:
    sides = torch.randint(1, 300, (31, 2), generator=generator).tolist()
    dealt = shares([(a, b) for a, b in sides], processes)
    assert sorted(index for members in dealt for index in members) == list(range(31))
    # Multiplications of x x^T, of its square, and of the product with x.
    costs = [min(a, b) ** 2 * max(a, b) * 2 + min(a, b) ** 3 for a, b in sides]
    loads = [sum(costs[index] for index in members) for members in dealt]
    assert max(loads) - min(loads) <= max(costs)
    assert max(loads) <= max(max(costs), 1.34 * sum(costs) / processes)


def test_matrices_of_all_shapes_keep_their_order(generator: torch.Generator) -> None:
    matrices = [torch.randn(shape, generator=generator) for shape in [(4, 6), (3, 3), (4, 6), (6, 4), (3, 3)]]
    for matrix, answer in zip(matrices, orthogonalise_all(matrices), strict=True):
        assert torch.allclose(orthogonalise(matrix[None])[0], answer, atol=1e-5)
    assert orthogonalise_all([]) == []


SHAPES = [(8, 24), (8, 24), (16, 4, 3, 3), (16, 8, 3, 3), (12, 12), (20, 6)]


def trained(shapes: list[tuple[int, ...]], *, shared: bool = True) -> dict[str, Tensor]:
    """Matrices after four steps with seeded gradients, and a bias that Muon does not get."""
    source = torch.Generator().manual_seed(5)
    params = [nn.Parameter(torch.randn(shape, generator=source)) for shape in [*shapes, (7,)]]
    params = [nn.Parameter(p.detach().to(memory_format=torch.channels_last)) if p.ndim == 4 else p for p in params]
    optimizer = Muon(params[:-1], lr=0.02, shared=shared)
    for _ in range(4):
        for p in params:
            p.grad = torch.randn(p.shape, generator=source)
        optimizer.step()
    return {str(i): p.detach().contiguous() for i, p in enumerate(params)}


def share(rank: int, folder: Path) -> None:
    """One of two processes: its parameters, and how many matrices it orthogonalised itself."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    counts, plain = [], muon.orthogonalise

    def counted(matrices: Tensor, iterations: int = 5) -> Tensor:
        counts.append(len(matrices))
        return plain(matrices, iterations)

    muon.orthogonalise = counted
    for name, shapes, shared in (("many", SHAPES, True), ("one", SHAPES[:1], True), ("alone", SHAPES, False)):
        counts.clear()
        found = trained(shapes, shared=shared) | {"count": torch.tensor(sum(counts))}
        save_file(found, folder / f"{name}-{rank}.safetensors")
    dist.destroy_process_group()


def test_two_processes_share_the_work_and_end_as_one(tmp_path: Path) -> None:
    processes = [forks.process(share, rank, tmp_path) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for name, shapes in (("many", SHAPES), ("one", SHAPES[:1]), ("alone", SHAPES)):
        expected = trained(shapes)
        first, second = (load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in range(2))
        counts = [int(found.pop("count")) for found in (first, second)]
        done = 4 * len(shapes)
        assert sum(counts) == (2 * done if name == "alone" else done)
        # The largest kernel is more work than all others together.
        assert min(counts) == {"many": 4, "one": 0, "alone": done}[name]
        for key, value in expected.items():
            assert torch.equal(first[key], second[key])
            assert (first[key] - value).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 12, 96), (2, 96, 12), (1, 16, 32)])
@pytest.mark.parametrize("smallest", [1e-1, 1e-4])
def test_polynomials_of_the_gram_matrix_are_the_iterations(shape: tuple[int, int, int], smallest: float) -> None:
    """With singular values of many sizes, against the iterations written out in float64."""
    generator = torch.Generator().manual_seed(0)
    u, s, vt = torch.linalg.svd(torch.randn(*shape, generator=generator, dtype=torch.float64), full_matrices=False)
    s = torch.logspace(0, math.log10(smallest), s.shape[-1], dtype=torch.float64).expand_as(s)
    matrices = u @ torch.diag_embed(s) @ vt
    a, b, c = QUINTIC
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    wanted = u @ torch.diag_embed(s) @ vt
    torch.testing.assert_close(orthogonalise(matrices), wanted, rtol=0, atol=1e-10)
    # The Gram matrix is rounded in float32 relative to its largest value, one; five iterations raise an eigenvalue near
    # zero, and its error, by a**2 each, and a singular value is raised by a**5 at most.
    atol = 16 * torch.finfo(torch.float32).eps * a**5
    torch.testing.assert_close(orthogonalise(matrices.float()).double(), wanted, rtol=0, atol=atol)


def product(x: Tensor, y: Tensor) -> Tensor:
    """A matrix product, in bfloat16 with sums in float32 as hardware has it: PyTorch's own takes ten times as long."""
    return x @ y if x.dtype == torch.float64 else (x.float() @ y.float()).to(x.dtype)


@pytest.mark.parametrize("shape", [(24, 192), (128, 1152)])
@pytest.mark.parametrize("leading", [2, 8])
def test_in_bfloat16_nothing_is_raised_above_what_the_polynomials_reach(leading: int, shape: tuple[int, int]) -> None:
    """Of equal rows and little else, whose Gram matrix rounding makes indefinite."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.logspace(-4, -1, 12)[:, None, None] * torch.randn(12, *shape, generator=generator)
    matrices[:, :leading] += torch.randn(shape[1], generator=generator)
    matrices = matrices.bfloat16()
    found = orthogonalise(matrices)
    singular = torch.linalg.svdvals(found.float())
    # The polynomials have their largest value on [0, 1] at 0.55, which is 1.21; two factors are rounded to 2**-8 each.
    assert singular.max() < 1.21 + 16 * 2**-8
    # The iterations written out round as much.
    a, b, c = QUINTIC
    exact, rounded = (m / m.norm(dim=(1, 2), keepdim=True) for m in (matrices.double(), matrices))
    for _ in range(5):
        exact, rounded = (
            a * x + product(b * gram + product(c * gram, gram), x)
            for x, gram in ((exact, product(exact, exact.mT)), (rounded, product(rounded, rounded.mT)))
        )
    errors = [(each.double() - exact).norm() for each in (found, rounded)]
    assert errors[0] < 1.5 * errors[1]
