"""Muon: momentum whose update of each hidden weight matrix is orthogonalised."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unistep.training.parallel import like_shard, whole

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration, chosen by Jordan et al. for a steep slope at zero."""
LOW_PRECISION_ITERATIONS = 2
r"""Iterations on one Gram matrix :math:`A` in bfloat16. Rounding, up to :math:`2^{-9}\lVert A\rVert`, can make a small
eigenvalue negative, and each iteration multiplies it by about twelve: after two it is still in the range that the
polynomials are made for, after three it need not be."""


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    r"""Push the singular values of each matrix towards one.

    .. math:: X \leftarrow aX + (bXX^\top + c(XX^\top)^2)X, \quad X_0 = G/\lVert G\rVert_F

    Where one side is twice the other or more, as in convolutions, the polynomials of the short side's Gram matrix
    :math:`A = XX^\top` are multiplied first and :math:`X_0` once with the product, as all of them commute:

    .. math:: P = aI + bA + cA^2, \quad Q \leftarrow PQ, \quad A \leftarrow PAP, \quad X = Q X_0

    This takes less than half of the arithmetic. It squares the singular values, and bfloat16 has too few digits for
    five such iterations: there :math:`A` is computed anew from :math:`X` after every second one, which still saves a
    third where one side is nine times the other.

    Args:
        matrices: Shape ``[k, rows, columns]``.
        iterations: Number of Newton-Schulz iterations; after five the singular values lie in about [0.7, 1.2].

    Returns:
        Same shape.

    References:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if x.shape[2] >= 2 * x.shape[1]:
        together = iterations if x.dtype in (torch.float32, torch.float64) else LOW_PRECISION_ITERATIONS
        for done in range(0, iterations, max(together, 1)):
            x = _gram_polynomial(x @ x.mT, min(together, iterations - done)) @ x
        return x.mT if tall else x
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _gram_polynomial(gram: Tensor, iterations: int) -> Tensor:
    """The product of the polynomials of all iterations, ``[k, rows, rows]``, from the Gram matrices."""
    a, b, c = QUINTIC
    product: Tensor | None = None
    for iteration in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if iteration + 1 < iterations:
            gram = factor @ gram @ factor
    assert product is not None
    return product


def orthogonalise_all(matrices: Sequence[Tensor], iterations: int = 5) -> list[Tensor]:
    """Orthogonalise matrices of any shapes ``[rows, columns]``, those of one shape together."""
    by_shape: dict[torch.Size, list[int]] = defaultdict(list)
    for index, matrix in enumerate(matrices):
        by_shape[matrix.shape].append(index)
    found: dict[int, Tensor] = {}
    for members in by_shape.values():
        # Matrices of one shape go through the iteration together: fewer, larger products.
        results = orthogonalise(torch.stack([matrices[index] for index in members]), iterations)
        found.update(zip(members, results, strict=True))
    return [found[index] for index in range(len(matrices))]


def shares(shapes: Sequence[tuple[int, int]], processes: int) -> list[list[int]]:
    r"""Deal matrices out so that all processes have about the same work.

    An iteration costs :math:`2 m^2 n + m^3` multiplications, with :math:`m` the shorter side. The costliest matrix
    that is left goes to the process that has the least so far.

    Args:
        shapes: Rows and columns of each matrix.
        processes: Number of processes.

    Returns:
        Indices into ``shapes`` for each process.
    """
    costs = [2 * min(shape) ** 2 * max(shape) + min(shape) ** 3 for shape in shapes]
    loads, dealt = [0] * processes, [list[int]() for _ in range(processes)]
    for index in sorted(range(len(shapes)), key=lambda index: -costs[index]):
        least = loads.index(min(loads))
        loads[least] += costs[index]
        dealt[least].append(index)
    return dealt


def orthogonalise_shared(matrices: Sequence[Tensor], iterations: int = 5) -> list[Tensor]:
    """:func:`orthogonalise_all` of matrices that every process holds, each process doing a share of them.

    The results of a process travel in one message, so that all processes end with the same bits.
    """
    rank, processes = dist.get_rank(), dist.get_world_size()
    dealt = shares([(matrix.shape[0], matrix.shape[1]) for matrix in matrices], processes)
    dtype = functools.reduce(torch.promote_types, (matrix.dtype for matrix in matrices))
    messages = [
        torch.empty(sum(matrices[index].numel() for index in members), dtype=dtype, device=matrices[0].device)
        for members in dealt
    ]
    mine = orthogonalise_all([matrices[index] for index in dealt[rank]], iterations)
    if mine:
        torch.cat([answer.flatten() for answer in mine], out=messages[rank])
    sent = [dist.broadcast(part, source, async_op=True) for source, part in enumerate(messages) if len(part)]
    for work in sent:
        assert work is not None
        work.wait()
    found: dict[int, Tensor] = {}
    for members, part in zip(dealt, messages, strict=True):
        pieces = part.split([matrices[index].numel() for index in members])
        found.update((index, piece.view(matrices[index].shape)) for index, piece in zip(members, pieces, strict=True))
    return [found[index] for index in range(len(matrices))]


NOT_MATRICES = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
"""Modules whose weights are no maps from one vector to another, whatever their shape."""


def hidden_matrices(net: nn.Module) -> list[nn.Parameter]:
    """Weight matrices between the first and the last layer; everything else stays with Adam.

    A network may name the submodules at its boundary, which read the input, embed times and conditions or write the
    output, as ``boundary_layers``. Of a network without that attribute, the first and the last matrix that it registers
    are taken to be its boundary, and the weights of embeddings and normalisations are left out.

    Args:
        net: A network.
    """
    matrices = {name: p for name, p in net.named_parameters() if p.requires_grad and p.ndim >= 2}
    boundary = getattr(net, "boundary_layers", None)
    if boundary is not None:
        return [p for name, p in matrices.items() if not name.startswith(tuple(f"{layer}." for layer in boundary))]
    others = {
        id(p) for module in net.modules() if isinstance(module, NOT_MATRICES) for p in module.parameters(recurse=False)
    }
    return [p for p in matrices.values() if id(p) not in others and 1 < len(p) < p.numel()][1:-1]


class Muon(torch.optim.Optimizer):
    r"""Muon for weight matrices; a convolution's weight counts as the matrix ``[out, in * kernel]``.

    The update is scaled by :math:`0.2\sqrt{\max(\text{rows}, \text{columns})}`, so that its root mean square is that of
    a typical Adam update (Liu et al. 2025, arXiv 2502.16982, equation 4).

    Several processes of ``torch.distributed`` share the orthogonalisation out among them.

    Args:
        params: Parameters of two or more dimensions.
        lr: Learning rate.
        momentum: Decay of the (Nesterov) momentum.
        weight_decay: Decoupled weight decay.
        shared: Whether several processes train one model, with the same gradients on each, as DDP and FSDP2 have it.
            ``False`` for processes with a model each.
        dtype: Arithmetic of the orthogonalisation, which needs no more than bfloat16 (Jordan et al. 2024); the
            gradient's without.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 3e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        shared: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.shared = shared
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; a ``closure`` is evaluated with gradients first, as PyTorch's optimizers do."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _update(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        if not params:
            return
        weights: list[Tensor] = [*params]
        gradients = [p.grad for p in params if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
        matrices = [whole(d.to(self.dtype or d.dtype)).flatten(1) for d in directions]
        updates = (orthogonalise_shared if self._together(params) else orthogonalise_all)(matrices)
        changes = [like_shard(u.reshape(p.shape).to(p.dtype), p) for p, u in zip(params, updates, strict=True)]
        scales = [-group["lr"] * 0.2 * max(matrix.shape) ** 0.5 for matrix in matrices]
        torch._foreach_mul_(changes, scales)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, changes)

    def _together(self, params: list[nn.Parameter]) -> bool:
        """Whether there are other processes, all of which have these parameters."""
        if not (self.shared and params and dist.is_initialized()):
            return False
        processes = dist.get_world_size()
        meshes = [p.device_mesh for p in params if isinstance(p, DTensor)]
        return processes > 1 and all(mesh.size() == processes for mesh in meshes)
