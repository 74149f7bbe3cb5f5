"""The value and its directional derivative: against formulas, PyTorch's own rules and differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from unistep.core.values import Label
from unistep.nets.unet import UNet, UNetConfig
from unistep.objectives.jvp_rules import JVPRules
from unistep.objectives.tangent import TangentMethod, value_and_tangent

METHODS: tuple[TangentMethod, ...] = ("exact", "finite")


def network(dims: int = 2, dropout: float = 0.0, **changes: object) -> UNet:
    """A small U-Net with attention, none of whose layers is zero."""
    config = UNetConfig(
        dims=dims, widths=(8, 16), blocks=(1, 1), embedding_dim=16, head_dim=8, attention=(1,), dropout=dropout,
        num_classes=3, **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    net = config.build()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def point(dims: int = 2, dtype: torch.dtype = torch.float64) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Signals and times, and a direction."""
    shape = (3, 1, *[8] * dims)
    primals = torch.randn(shape, dtype=dtype), 0.5 * torch.randn(3, dtype=dtype)
    return primals, (torch.randn(shape, dtype=dtype), torch.randn(3, dtype=dtype))


def call(net: UNet) -> Callable[[Tensor, Tensor], Tensor]:
    label = Label(torch.tensor([0, 2, -1]))
    return lambda x, t: net(x, t, None, {"label": label})


@pytest.mark.parametrize("method", METHODS)
def test_an_analytic_derivative(method: TangentMethod) -> None:
    x, t, w = torch.randn(5, 3).double(), torch.rand(5).double(), torch.tensor(1.7, dtype=torch.float64)
    w.requires_grad_()
    v, u = torch.randn(5, 3).double(), torch.randn(5).double()
    value, tangent = value_and_tangent(lambda x, t: (w * x).sin() * t[:, None], (x, t), (v, u), method=method)
    wanted = (w * x).cos() * w * v * t[:, None] + (w * x).sin() * u[:, None]
    torch.testing.assert_close(tangent, wanted, rtol=0, atol=1e-12 if method == "exact" else 1e-5)
    assert not tangent.requires_grad
    (slope,) = torch.autograd.grad(value.sum(), w)
    torch.testing.assert_close(slope, ((w * x).cos() * x * t[:, None]).sum())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_rules_agree_with_pytorchs_own_and_with_a_difference(dims: int) -> None:
    net, (primals, tangents) = network(dims).double(), point(dims)
    value, tangent = value_and_tangent(call(net), primals, tangents)
    own_value, own = torch.func.jvp(call(net), primals, tangents)
    _, difference = value_and_tangent(call(net), primals, tangents, method="finite", step=1e-4)
    assert tangent.abs().amax() > 0.1
    torch.testing.assert_close(value, own_value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, own, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(tangent, difference, rtol=1e-5, atol=1e-5)


def test_in_channels_last_and_in_float32() -> None:
    net, (primals, tangents) = network().double(), point()
    _, wanted = value_and_tangent(call(net), primals, tangents)
    net = net.float().to(memory_format=torch.channels_last)
    singles = [tuple(v.float() for v in values) for values in (primals, tangents)]
    for method, bound in (("exact", 1e-5), ("finite", 2e-3)):
        _, tangent = value_and_tangent(call(net), *singles, method=method)  # type: ignore[arg-type]
        assert float((tangent - wanted).norm() / wanted.norm()) < bound


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular"), nn.GroupNorm(2, 2)])
def test_layers_with_other_options(layer: nn.Module) -> None:
    layer, x, v = layer.double(), torch.randn(2, 2, 4, 4).double(), torch.randn(2, 2, 4, 4).double()
    value, tangent = value_and_tangent(layer, (x,), (v,))
    wanted_value, wanted = torch.func.jvp(layer, (x,), (v,))
    torch.testing.assert_close(value, wanted_value)
    torch.testing.assert_close(tangent, wanted)


def test_functions_called_in_other_ways() -> None:
    """By keyword, in place, without affine parameters, and with weights that carry a tangent themselves."""
    x, v = torch.randn(2, 4, 3).double(), torch.randn(2, 4, 3).double()
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: F.silu(x, inplace=True),
        lambda x: F.silu(input=x),
        lambda x: F.group_norm(x, 2),
        lambda x: F.group_norm(x, 2, eps=0.1),
        lambda x: F.layer_norm(x, (3,)),
        lambda x: F.layer_norm(x, [4, 3], eps=0.1),
        lambda x: F.layer_norm(x, (3,), weight=torch.arange(3.0).double(), bias=torch.ones(3).double()),
        lambda x: F.linear(x, x[0, :3], bias=x[0, 0, :3]),
        lambda x: F.linear(torch.eye(3).double(), x[0]),
    ]
    for function in functions:
        _, tangent = value_and_tangent(lambda x, f=function: f(x * 1.0), (x,), (v,))
        _, wanted = torch.func.jvp(lambda x, f=function: f(x * 1.0), (x,), (v,))
        torch.testing.assert_close(tangent, wanted)


@pytest.mark.parametrize("method", METHODS)
def test_the_value_has_the_gradient_of_a_plain_pass(method: TangentMethod) -> None:
    net, (primals, tangents) = network().double(), point()
    plain = call(net)(*primals)
    wanted = torch.autograd.grad(plain.square().sum(), list(net.parameters()))
    value, tangent = value_and_tangent(call(net), primals, tangents, method=method)
    torch.testing.assert_close(value, plain, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad((value.square() + 0 * tangent).sum(), list(net.parameters()))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("method", "passes"), [("exact", 1), ("finite", 3)])
def test_the_number_of_passes(method: TangentMethod, passes: int) -> None:
    net, (primals, tangents) = network().double(), point()
    seen: list[bool] = []
    net.register_forward_hook(lambda module, args, out: seen.append(torch.is_grad_enabled()))
    value_and_tangent(call(net), primals, tangents, method=method)
    assert seen == [True] + [False] * (passes - 1)


def convolutions(fn: Callable[[], object]) -> int:
    """How many convolutions ``fn`` runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        fn()
    return sum(event.count for event in profile.key_averages() if event.key == "aten::_convolution")


def test_exact_costs_a_convolution_for_the_value_and_one_for_the_tangent() -> None:
    """PyTorch's own formula takes a third, with zeros."""
    conv, x = nn.Conv2d(2, 2, 3), torch.randn(1, 2, 6, 6)
    assert convolutions(lambda: conv(x)) == 1
    assert convolutions(lambda: value_and_tangent(conv, (x,), (x,))) == 2
    assert convolutions(lambda: torch.func.jvp(conv, (x,), (x,))) == 3


def test_layers_record_no_graph_of_the_tangent() -> None:
    x = torch.randn(1, 4, 6, 6)
    with forward_ad.dual_level(), JVPRules():
        for layer in (nn.Conv2d(4, 2, 3), nn.Linear(6, 2), nn.GroupNorm(2, 4)):
            value, tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x)))
            assert value.requires_grad
            assert tangent is not None
            assert not tangent.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_one_dropout_mask_and_one_draw(method: TangentMethod) -> None:
    net, (primals, tangents) = network(dropout=0.5).double().train(), point()
    torch.manual_seed(7)
    plain = call(net)(*primals)
    after = torch.rand(1)
    torch.manual_seed(7)
    value, tangent = value_and_tangent(call(net), primals, tangents, method=method, step=1e-4)
    assert torch.equal(torch.rand(1), after)
    torch.testing.assert_close(value, plain, rtol=1e-12, atol=1e-12)
    torch.manual_seed(7)
    ahead = call(net)(*(p + 1e-5 * v for p, v in zip(primals, tangents, strict=True)))
    torch.testing.assert_close(tangent, (ahead - plain).detach() / 1e-5, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_under_autocast_the_derivative_is_right_to_bfloat16(method: TangentMethod) -> None:
    net, (primals, tangents) = network(), point(dtype=torch.float32)
    _, wanted = value_and_tangent(call(net), primals, tangents)
    full = torch.autograd.grad(call(net)(*primals).square().sum(), list(net.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, tangent = value_and_tangent(call(net), primals, tangents, method=method)
        plain = call(net)(*primals)
    torch.testing.assert_close(value.float(), plain.float(), rtol=0.02, atol=0.02)
    # Some fifty roundings of 2**-9 of the value and of the tangent: 0.02 as a random walk; twice that is allowed.
    assert float((tangent.float() - wanted).norm() / wanted.norm()) < 0.04
    rounded = torch.autograd.grad(value.float().square().sum(), list(net.parameters()))
    for ours, theirs in zip(rounded, full, strict=True):
        assert float((ours - theirs).norm()) <= 0.1 * float(theirs.norm()) + 1e-6


def test_a_result_that_does_not_move_has_no_tangent() -> None:
    w = torch.ones(3, requires_grad=True)
    for method in METHODS:
        value, tangent = value_and_tangent(lambda x: 2 * w, (torch.ones(3),), (torch.ones(3),), method=method)
        assert value.requires_grad
        assert tangent.tolist() == [0, 0, 0]


class Doubled(torch.autograd.Function):
    """A kernel of someone's own, with a backward pass only."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * grad


def compiled() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.compile(backend="aot_eager")
    return layer


BROKEN: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "kernel": lambda: lambda x: Doubled.apply(x),  # type: ignore[return-value]
    "attention": lambda: lambda q: F.scaled_dot_product_attention(q, q, q),
    "checkpoint": lambda: lambda x: checkpoint(nn.Linear(8, 8), x, use_reentrant=False),  # type: ignore[return-value]
    "compiled": compiled,
}


@pytest.mark.parametrize("part", BROKEN)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_what_has_no_forward_derivative_is_refused_and_finite_serves(part: str) -> None:
    fn, x = BROKEN[part](), torch.randn(1, 2, 5, 8)
    with pytest.raises(ValueError, match=r"no forward derivative \(.+\); .* take method='finite'"):
        value_and_tangent(fn, (x,), (x,))
    assert forward_ad._current_level == -1
    value, tangent = value_and_tangent(fn, (x,), (torch.ones_like(x),), method="finite")
    assert value.shape == tangent.shape
    assert tangent.isfinite().all()


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        value_and_tangent(lambda x: x + torch.ones(3), (torch.ones(2),), (torch.ones(2),))
    assert forward_ad._current_level == -1


def test_bad_arguments_are_refused() -> None:
    x = torch.ones(2)
    with pytest.raises(ValueError, match="shapes of the primals"):
        value_and_tangent(lambda x: x, (x,), (torch.ones(3),))
    with pytest.raises(ValueError, match="shapes of the primals"):
        value_and_tangent(lambda: x, (), ())
    with pytest.raises(ValueError, match="'exact' or 'finite'"):
        value_and_tangent(lambda x: x, (x,), (x,), method="exakt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive step"):
        value_and_tangent(lambda x: x, (x,), (x,), method="finite", step=0.0)
