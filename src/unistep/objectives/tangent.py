"""A function and its directional derivative together: what continuous-time objectives need of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unistep.objectives.base import with_same_dropout
from unistep.objectives.jvp_rules import JVPRules

TangentMethod = Literal["exact", "finite"]
"""``exact`` is forward-mode differentiation; ``finite`` a central difference, for networks that have no such mode."""

_NO_HOOKS = "activation checkpointing, or another user of saved-tensor hooks, cannot repeat a pass of forward AD"


def value_and_tangent(
    fn: Callable[..., Tensor],
    primals: tuple[Tensor, ...],
    tangents: tuple[Tensor, ...],
    *,
    method: TangentMethod = "exact",
    step: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    r"""The value of ``fn`` with its gradient, and without gradient its derivative along ``tangents``.

    .. math:: y = \mathrm{fn}(p), \qquad
              \dot y = \mathrm{sg}\!\left(\sum_i \frac{\partial\,\mathrm{fn}}{\partial p_i}\, \dot p_i\right)

    ``exact`` runs ``fn`` once on dual numbers: about the arithmetic of two passes forward, no second pass backward.
    ``finite`` runs ``fn`` three times, twice of them without gradient and in full precision even under autocast (the
    rounding of bfloat16 is larger than the difference),

    .. math:: \dot y \approx \frac{\mathrm{fn}(p + h \dot p) - \mathrm{fn}(p - h \dot p)}{2h},

    with an error of order :math:`h^2` and a rounding error of order :math:`10^{-7}/h`. In both cases value and
    derivative have the same dropout mask, and the random state afterwards is that of one pass.

    Args:
        fn: What is differentiated; it may call a network that others have wrapped (a sharded one through its own
            call, so that its hooks run).
        primals: The point, floating-point tensors.
        tangents: The direction; of the shapes of ``primals``.
        method: ``exact`` or ``finite``.
        step: The :math:`h` of ``finite``, in units of ``tangents``.

    Returns:
        ``y`` with its graph, and the detached derivative, both of the shape that ``fn`` returns.

    Raises:
        ValueError: If the shapes differ, the method is unknown, or a part of the network has no forward derivative.

    References:
        Lu & Song 2024, arXiv 2410.11081, section 4.2 and appendix F; Baydin et al. 2018, arXiv 1502.05767, section 3.1.
    """
    shapes = [[tuple(v.shape) for v in values] for values in (primals, tangents)]
    if shapes[0] != shapes[1] or not primals:
        raise ValueError(f"tangents need the shapes of the primals, got {shapes[1]} for {shapes[0]}")
    if method == "exact":
        return _exact(fn, primals, tangents)
    if method != "finite" or not step > 0:
        raise ValueError(f"method must be 'exact' or 'finite' with a positive step, got {method!r} and {step}")
    device = primals[0].device

    def moved(h: float) -> Tensor:
        return fn(*(p + h * v for p, v in zip(primals, tangents, strict=True)))

    def difference() -> Tensor:
        with torch.autocast(device.type, enabled=False):
            ahead, behind = with_same_dropout(lambda: moved(step), lambda: moved(-step), device)
        return (ahead - behind) / (2 * step)

    return with_same_dropout(lambda: fn(*primals), difference, device)


def _exact(
    fn: Callable[..., Tensor], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """One pass on dual numbers."""
    # Not torch.func.jvp: inside its wrappers the hooks by which a sharded module synchronises its gradients are lost.
    with forward_ad.dual_level(), JVPRules():
        duals = [forward_ad.make_dual(p, v.detach().to(p)) for p, v in zip(primals, tangents, strict=True)]
        try:
            # A checkpoint would repeat its pass without the dual numbers, and fail only in the backward pass.
            with torch.autograd.graph.disable_saved_tensors_hooks(_NO_HOOKS):
                value, tangent = forward_ad.unpack_dual(fn(*duals))
        except (RuntimeError, NotImplementedError) as error:
            if not any(word in str(error) for word in ("forward AD", "forward mode AD", "jvp")):
                raise
            first = str(error).split("\n", maxsplit=1)[0].rstrip(".")
            raise ValueError(
                f"a part of this network has no forward derivative ({first}); leave out activation checkpointing, "
                "compilation or the fused kernel, or take method='finite'"
            ) from error
    # A result that does not depend on the primals has no tangent.
    return value, torch.zeros_like(value) if tangent is None else tangent.detach()
