"""Forward-mode rules for the layers that dominate a network's run time, for which PyTorch's own rules are slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode


def _linear(
    func: Callable[..., Tensor], x: Tensor, v: Tensor, weight: Tensor, bias: Any = None, *rest: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    r"""A layer that is linear in its input: :math:`\dot y = W \dot x`."""
    y = func(x, weight, bias, *rest, **options)
    with torch.no_grad():
        return y, func(v, weight, None, *rest, **options)


def _silu(func: Callable[..., Tensor], x: Tensor, v: Tensor, inplace: bool = False) -> tuple[Tensor, Tensor]:
    r"""An elementwise function has a diagonal Jacobian, so its backward kernel is its forward derivative as well."""
    y = func(x)  # out of place in any case: the derivative needs the argument
    del inplace
    with torch.no_grad():
        return y, torch.ops.aten.silu_backward(v, x)


def _group_norm(
    func: object, x: Tensor, v: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    r"""Normalisation has a symmetric Jacobian, so that again the backward kernel computes the tangent.

    .. math:: \hat x = \frac{x - \mu}{s}, \qquad
              \frac{\partial\hat x}{\partial x} = \frac1s\Bigl(I - \frac{1 1^\top + \hat x \hat x^\top}{n}\Bigr)
    """
    del func
    if x.device.type != "cpu" and torch.is_autocast_enabled(x.device.type):
        x, v = x.float(), v.float()  # as autocast has it there
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    # PyTorch's kernel for GPUs supports the plain layout only.
    layout = torch.channels_last if last and x.device.type == "cpu" else torch.contiguous_format
    x = x.contiguous(memory_format=layout)
    sizes = (len(x), x.shape[1], x[0, 0].numel(), groups)
    y, mean, rstd = torch.native_group_norm(x, weight, bias, *sizes, eps)
    with torch.no_grad():
        v = v.to(x.dtype).contiguous(memory_format=layout)
        tangent = torch.ops.aten.native_group_norm_backward(v, x, mean, rstd, None, *sizes, [True, False, False])[0]
        return y, tangent if weight is None else tangent * weight.view(-1, *([1] * (x.ndim - 2)))


def _layer_norm(
    func: object, x: Tensor, v: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """The same of the normalisation of each vector."""
    del func
    if x.device.type != "cpu" and torch.is_autocast_enabled(x.device.type):
        x, v = x.float(), v.float()  # as autocast has it there
    y, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, eps)
    with torch.no_grad():
        ones = None if weight is None else torch.ones_like(weight)  # whose type goes with that of the moments
        only_x = [True, False, False]
        tangent = torch.ops.aten.native_layer_norm_backward(v.to(x.dtype), x, shape, mean, rstd, ones, None, only_x)[0]
        return y, tangent if weight is None else tangent * weight


RULES: dict[Any, Callable[..., tuple[Tensor, Tensor]]] = {
    F.conv1d: _linear,
    F.conv2d: _linear,
    F.conv3d: _linear,
    F.linear: _linear,
    F.silu: _silu,
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
}
"""``rule(func, x, tangent of x, *other arguments) -> (value, tangent)``."""


class JVPRules(TorchFunctionMode):
    """Inside ``forward_ad.dual_level()``: replaces the functions of ``RULES``, and leaves all others to PyTorch.

    PyTorch's formulas differentiate a layer in its weights too, as a second convolution with zeros; they write
    normalisations and activations out in elementary steps; and they record a graph of the tangent, whose gradient is
    not needed. The rules here avoid this: a pass costs about as much time and memory as two forward passes.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule is None or not args:
            return func(*args, **kwargs)
        x, tangent = forward_ad.unpack_dual(args[0])
        others = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, Tensor)]
        if tangent is None or any(forward_ad.unpack_dual(a).tangent is not None for a in others):
            return func(*args, **kwargs)
        y, tangent = rule(func, x, tangent, *args[1:], **kwargs)
        return forward_ad.make_dual(y, tangent.to(y.dtype))
