"""The U-Net: shapes, derivatives, labels, memory formats, export, compilation and mistakes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tolerance import rounding
from unistep.core.condition import Label, Scalar, Signal, as_condition
from unistep.nets.unet import UNet, UNetConfig

SMALL = {"widths": (16, 32), "blocks": (1, 1), "embedding_dim": 32, "head_dim": 16}


def loud(config: UNetConfig) -> UNet:
    """A network in evaluation mode none of whose layers is zero."""
    net = config.build().eval()
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return net


def inputs(config: UNetConfig, batch: int = 2, size: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, config.channels, *([size] * config.dims)), torch.randn(batch)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_in_every_dimension(dims: int, patch: int, channels: int) -> None:
    config = UNetConfig(channels=channels, dims=dims, patch=patch, attention=(1,), **SMALL)
    x, t = inputs(config)
    y = loud(config)(x, t)
    assert y.shape == x.shape
    assert y.std() > 0


@pytest.mark.parametrize("size", [(8, 12), (4, 4), (20, 8)])
def test_any_multiple_of_the_size_will_do(size: tuple[int, int]) -> None:
    config = UNetConfig(**SMALL)
    assert config.multiple == 4
    assert loud(config)(torch.randn(1, 1, *size), torch.zeros(1)).shape == (1, 1, *size)


def test_more_levels_blocks_and_middles() -> None:
    config = UNetConfig(patch=1, widths=(8, 16, 24), blocks=(2, 1, 3), middle_blocks=3, embedding_dim=16, head_dim=8)
    x, t = inputs(config)
    assert loud(config)(x, t).shape == x.shape
    plain = UNetConfig(middle_blocks=0, **SMALL)
    assert loud(plain)(*inputs(plain)).shape == x.shape


def test_the_output_starts_at_zero() -> None:
    config = UNetConfig(num_classes=3, **SMALL)
    assert not config.build()(*inputs(config)).any()


def test_the_output_depends_on_everything_it_is_told() -> None:
    config = UNetConfig(num_classes=3, second_time=True, **SMALL)
    net = loud(config)
    x, t = inputs(config)
    s, label = torch.randn(2), {"label": Label(torch.tensor([0, 1]))}
    base = net(x, t, s, label)
    for other in (
        net(x + 0.1, t, s, label),
        net(x, t + 0.1, s, label),
        net(x, t, s + 0.1, label),
        net(x, t, s, {"label": Label(torch.tensor([2, 2]))}),
        net(x, t, s, None),
    ):
        assert (other - base).flatten(1).abs().amax(dim=1).min() > 1e-4


def test_a_negative_label_is_no_label() -> None:
    config = UNetConfig(num_classes=3, **SMALL)
    net = loud(config)
    x, t = inputs(config)
    none = net(x, t)
    for condition in ({}, {"label": Label(torch.tensor([-1, -1]))}, {"label": Label(torch.tensor([-5, -1]))}):
        torch.testing.assert_close(net(x, t, None, condition), none)


@pytest.mark.parametrize("dims", [1, 2])
def test_examples_do_not_influence_each_other(dims: int) -> None:
    config = UNetConfig(dims=dims, num_classes=3, attention=(0, 1), **SMALL)
    net = loud(config)
    x, t = inputs(config, batch=3)
    label = torch.tensor([0, -1, 2])
    together = net(x, t, None, {"label": Label(label)})
    for i in range(3):
        alone = net(x[i : i + 1], t[i : i + 1], None, {"label": Label(label[i : i + 1])})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)
    changed = x.clone()
    changed[0] = 100
    torch.testing.assert_close(net(changed, t, None, {"label": Label(label)})[1:], together[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_forward_derivatives_agree_with_finite_differences(dims: int) -> None:
    """Through attention, in double precision, in the direction of everything at once."""
    config = UNetConfig(dims=dims, attention=(1,), second_time=True, num_classes=2, **SMALL)
    net = loud(config).double()
    x, t = (v.double() for v in inputs(config, size=4))
    s, condition = t - 0.5, {"label": Label(torch.tensor([0, -1]))}
    dx, dt, ds, h = torch.randn_like(x), torch.ones_like(t), torch.full_like(t, -0.7), 1e-5

    def call(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return net(x, t, s, condition)

    _, tangent = torch.func.jvp(call, (x, t, s), (dx, dt, ds))
    numeric = (call(x + h * dx, t + h * dt, s + h * ds) - call(x - h * dx, t - h * dt, s - h * ds)) / (2 * h)
    assert tangent.abs().mean() > 1e-3
    torch.testing.assert_close(tangent, numeric, rtol=1e-5, atol=1e-7)


def test_a_forward_derivative_has_parameter_gradients() -> None:
    """SCM and MeanFlow differentiate the weights while a tangent is carried."""
    config = UNetConfig(attention=(1,), **SMALL)
    net = loud(config)
    x, t = inputs(config, size=4)
    value, tangent = torch.func.jvp(lambda x, t: net(x, t), (x, t), (torch.randn_like(x), torch.ones_like(t)))
    ((value - tangent.detach()) ** 2).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in net.named_parameters() if "label" not in n)


def test_dropout_acts_in_training_only_and_repeats_with_the_random_state() -> None:
    config = UNetConfig(dropout=0.5, **SMALL)
    net = loud(config)
    x, t = inputs(config)
    torch.testing.assert_close(net(x, t), net(x, t), rtol=0, atol=0)
    net.train()
    state = torch.get_rng_state()
    first = net(x, t)
    assert not torch.allclose(net(x, t), first)
    torch.set_rng_state(state)
    assert torch.equal(net(x, t), first)


def test_channels_last_computes_the_same() -> None:
    config = UNetConfig(channels=3, patch=1, attention=(1,), **SMALL)
    net = loud(config)
    x, t = inputs(config)
    wanted = net(x, t)
    net = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        net(x.to(memory_format=torch.channels_last), t),
        wanted,
        rtol=0,
        atol=rounding(9 * 32, wanted.abs().max().item()),
    )


def test_the_parameter_count_is_that_of_the_layers() -> None:
    """Counted by hand for one level of width 8 without labels or attention."""
    config = UNetConfig(channels=1, patch=2, widths=(8,), blocks=(1,), middle_blocks=1, embedding_dim=4)

    def residual(c_in: int, c_out: int) -> int:
        norms = 2 * c_in + 2 * c_out
        convolutions = 9 * c_in * c_out + c_out + 9 * c_out * c_out + c_out
        return norms + convolutions + (4 + 1) * 2 * c_out + (0 if c_in == c_out else c_in * c_out + c_out)

    time = 2 * (4 * 4 + 4)
    ends = (9 * 4 * 8 + 8) + 2 * 8 + (9 * 8 * 4 + 4)
    wanted = time + ends + residual(8, 8) + residual(8, 8) + residual(16, 8)
    assert sum(p.numel() for p in config.build().parameters()) == wanted


def test_every_parameter_receives_a_gradient() -> None:
    config = UNetConfig(num_classes=2, second_time=True, attention=(0, 1), **SMALL)
    net = loud(config)
    x, t = inputs(config)
    net(x, t, t, {"label": Label(torch.tensor([0, -1]))}).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_state_survives_saving() -> None:
    config = UNetConfig(num_classes=2, **SMALL)
    net, other = loud(config), config.build().eval()
    other.load_state_dict(net.state_dict())
    x, t = inputs(config)
    assert torch.equal(net(x, t), other(x, t))


def test_export_gives_the_same_graph_for_any_batch() -> None:
    config = UNetConfig(attention=(1,), num_classes=3, **SMALL)
    net = loud(config)
    x, t = inputs(config)
    condition = {"label": Label(torch.tensor([0, -1]))}
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"x": {0: batch}, "t": {0: batch}, "s": None, "condition": {"label": [{0: batch}]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's exporter warns about its own internals
        program = torch.export.export(net, (x, t, None, condition), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(x, t, None, condition), net(x, t, None, condition))
    x, t = inputs(config, batch=5)
    condition = {"label": Label(torch.tensor([0, 1, 2, -1, 0]))}
    torch.testing.assert_close(program.module()(x, t, None, condition), net(x, t, None, condition))


def test_compilation_makes_one_graph() -> None:
    """Traced by Dynamo without a break; the backend that only traces avoids a C++ compiler in the tests."""
    config = UNetConfig(attention=(1,), num_classes=3, **SMALL)
    net = loud(config)
    x, t = inputs(config)
    condition = {"label": Label(torch.tensor([0, -1]))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's compiler warns about its own internals
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        got = compiled(x, t, None, condition)
    torch.testing.assert_close(got, net(x, t, None, condition), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [(2, 2, 8, 8), (2, 1, 8), (2, 1, 8, 8, 8), (2, 1, 8, 6), (2, 1, 3, 8)],
    ids=["channels", "too few dims", "too many dims", "width", "height"],
)
def test_a_signal_that_does_not_fit_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    net = UNetConfig(**SMALL).build()
    with pytest.raises(ValueError, match=r"takes \[b, 1, ...\] with 2 spatial sizes that are multiples of 4, got") as e:
        net(torch.zeros(shape), torch.zeros(2))
    assert str(shape) in str(e.value)


def test_a_second_time_is_needed_where_it_was_promised() -> None:
    net = UNetConfig(second_time=True, **SMALL).build()
    with pytest.raises(ValueError, match="second_time=True and needs the time s"):
        net(torch.zeros(1, 1, 8, 8), torch.zeros(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (16, 32), "blocks": (1,)}, "widths and blocks need the same length"),
        ({"dims": 4}, "dims must be 1, 2 or 3, got 4"),
        ({"patch": 0}, "must be positive"),
        ({"widths": (), "blocks": ()}, "must be positive"),
        ({"blocks": (1, 0)}, "must be positive"),
        ({"widths": (-8, 16)}, "must be positive"),
        ({"attention": (-9,)}, "levels of attention count from 0"),
        ({"head_dim": 0}, "head_dim must be positive"),
        ({"attention": (0, 2)}, r"levels of attention are from 0 to 1 with widths .*, got \(0, 2\)"),
        ({"vocabularies": {"label": 3}}, "conditions need names of their own"),
        ({"vocabularies": {"pitch": 3}, "scalars": {"pitch": 1.0}}, "conditions need names of their own"),
        ({"scalars": {"how loud": 1.0}}, "conditions need names of their own"),
        ({"vocabularies": {"pitch": 0}}, "must be positive"),
        ({"scalars": {"velocity": 0.0}}, "must be positive"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
    ],
)
def test_an_impossible_shape_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig(**options)  # type: ignore[arg-type]


def test_every_condition_is_heard_and_may_be_left_out(generator: torch.Generator) -> None:
    options: dict[str, Any] = {"vocabularies": {"pitch": 5}, "scalars": {"velocity": 127.0}, "num_classes": 3}
    net = UNetConfig(**{**SMALL, **options}).build()
    with torch.no_grad():
        for weight in net.parameters():  # the zeros that training starts from would hide a condition
            weight.normal_(0, 0.2, generator=generator)
    x, t = torch.randn(1, 1, 8, 8, generator=generator), torch.zeros(1)
    told = {
        "label": Label(torch.tensor([1])),
        "pitch": Label(torch.tensor([2])),
        "velocity": Scalar(torch.tensor([64.0])),
    }
    everything = net(x, t, None, told)
    for name, other in (("label", 2), ("pitch", 3), ("velocity", 90.0)):
        changed = net(x, t, None, told | as_condition({name: torch.tensor([other])}))
        silent = net(x, t, None, told | {name: told[name].null()})
        left_out = net(x, t, None, {key: value for key, value in told.items() if key != name})
        assert (changed - everything).abs().max() > 1e-3
        assert (silent - everything).abs().max() > 1e-3
        assert torch.equal(silent, left_out)


def test_a_number_that_is_added_to_a_trained_network_begins_without_effect() -> None:
    net = UNetConfig(scalars={"guidance": 1.0}, **SMALL).build()
    assert net.scalars["guidance"](torch.tensor([0.0, 1.5, torch.nan])).abs().max() == 0


@pytest.mark.parametrize("dims", [1, 2])
def test_places_tell_places_apart(dims: int) -> None:
    """Noise-free convolutions of a constant differ at the borders only, unless places have features of their own."""
    options = {"dims": dims, "patch": 1, **SMALL, "widths": (16,), "blocks": (1,), "middle_blocks": 0}
    plain, placed = (loud(UNetConfig(**options, position_sizes=places)) for places in ((), (16,) * dims))
    x, t = torch.ones(1, 1, *((16,) * dims)), torch.zeros(1)
    middle = (0, 0, *([8] * (dims - 1)))
    for net, apart in ((plain, False), (placed, True)):
        row = net(x, t)[middle]
        assert (not torch.allclose(row[7], row[8], atol=1e-5)) == apart
    assert placed.position_embedding is not None
    assert placed.position_embedding.table.shape == (16,) + (16,) * dims
    assert "position_embedding" in UNet.boundary_layers


def test_a_network_with_places_takes_that_size_only() -> None:
    net = UNetConfig(dims=1, patch=2, position_sizes=(16,), **SMALL).build()
    assert net(torch.zeros(1, 1, 16), torch.zeros(1)).shape == (1, 1, 16)
    with pytest.raises(ValueError, match=r"takes signals of size \(16,\), got \(32,\)"):
        net(torch.zeros(1, 1, 32), torch.zeros(1))


@pytest.mark.parametrize("patch", [1, 2])
def test_a_mask_lets_the_input_through(patch: int) -> None:
    """By as much as the network chooses: nothing at first; all of it with weights of zero and a bias of one."""
    net = UNetConfig(channels=6, dims=1, patch=patch, gated_skip=True, **SMALL).build()
    x, t = torch.randn(2, 6, 16), torch.rand(2)
    assert not net(x, t).any()
    assert net.gated_skip is not None
    nn.init.ones_(net.gated_skip.bias)
    assert torch.equal(net(x, t), x)
    assert "gated_skip" in UNet.boundary_layers


def test_a_mask_carries_more_channels_than_the_network_has() -> None:
    """Its answer to a change of the input can have full rank; without it, no more than the network's channels."""

    def rank(gated_skip: bool) -> int:
        options = {"widths": (8,), "blocks": (1,), "head_dim": 8, "embedding_dim": 16}
        net = loud(UNetConfig(channels=24, dims=1, patch=1, gated_skip=gated_skip, **options))
        if net.gated_skip is not None:
            nn.init.ones_(net.gated_skip.bias)

        def answer(row: Tensor) -> Tensor:
            return net(row[None, :, None].expand(1, 24, 2), torch.zeros(1))[0, :, 0]

        return int(torch.linalg.matrix_rank(torch.func.jacrev(answer)(torch.randn(24)), rtol=1e-4))

    assert rank(gated_skip=False) < 24
    assert rank(gated_skip=True) == 24


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("patch", [1, 2])
def test_functions_of_place_begin_without_effect(dims: int, patch: int) -> None:
    """A network that has learned without them goes on from what it knows."""
    config = UNetConfig(dims=dims, patch=patch, position_sizes=(16,) * dims, num_classes=3, **SMALL)
    plain, more = loud(config), replace(config, basis_functions=40).build().eval()
    more.load_state_dict(more.state_dict() | plain.state_dict())
    x, t = inputs(config, batch=3, size=16)
    told = {"label": Label(torch.tensor([0, 2, -1]))}
    torch.testing.assert_close(more(x, t, None, told), plain(x, t, None, told))
    assert more.basis_head is not None
    nn.init.normal_(more.basis_head.outer.weight)
    assert (more(x, t, None, told) - plain(x, t, None, told)).abs().amin(dim=tuple(range(1, x.ndim))).max() > 0
    assert "basis_head.positions" in UNet.boundary_layers


def test_functions_of_place_hold_more_than_the_width() -> None:
    """What is answered to all classes and places spans all channels; without them, three taps of the width at most."""

    def rank(basis: int) -> int:
        options = {"widths": (8,), "blocks": (1,), "head_dim": 8, "embedding_dim": 16}
        config = UNetConfig(
            channels=48, dims=1, patch=1, position_sizes=(16,), num_classes=8, basis_functions=basis, **options
        )
        x, told = torch.zeros(8, 48, 16), {"label": Label(torch.arange(8))}
        answers = loud(config)(x, torch.zeros(8), None, told).detach().transpose(1, 2).reshape(-1, 48)
        return int(torch.linalg.matrix_rank(answers - answers.mean(dim=0), rtol=1e-4))

    assert rank(basis=0) <= 24
    assert rank(basis=96) == 48


@pytest.mark.parametrize(("basis", "places"), [(-1, (16,)), (8, ())])
def test_impossible_functions_of_place_are_refused(basis: int, places: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"basis_functions must be 0 without position_sizes, or positive, got {basis}"):
        UNetConfig(dims=1, position_sizes=places, basis_functions=basis)


@pytest.mark.parametrize("places", [(16, 16), (18,), (0,)])
def test_impossible_places_are_refused(places: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="position_sizes are 1 sizes, multiples of 4"):
        UNetConfig(dims=1, patch=2, position_sizes=places, **SMALL)


def test_places_work_in_bf16_and_under_a_forward_derivative() -> None:
    net = loud(UNetConfig(dims=1, patch=1, position_sizes=(16,), **SMALL))
    x, t = torch.randn(2, 1, 16), torch.rand(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x, t).dtype == torch.bfloat16
    _, derivative = torch.func.jvp(lambda t: net(x, t), (t,), (torch.ones(2),))
    assert derivative.isfinite().all()
    assert derivative.any()


def test_what_came_before_is_a_neighbour_of_the_signal() -> None:
    """Any network that is shown it answers to its last place at once, and is none the larger in its answer."""
    config = UNetConfig(channels=3, dims=1, patch=1, context=4, position_sizes=(8,), gated_skip=True, **SMALL)
    net = loud(config)
    x, t = inputs(config)
    told = {"context": Signal(torch.randn(2, 3, 4), torch.tensor([0.1, torch.nan]))}
    base = net(x, t, None, told)
    assert base.shape == x.shape
    context = told["context"]
    for other in (
        replace(context, signal=context.signal + torch.eye(4)[-1]),
        replace(context, level=context.level + 0.3),
    ):
        assert not torch.allclose(net(x, t, None, {"context": other})[0], base[0], atol=1e-4)
    nothing = {"context": Signal.clean(torch.zeros(2, 3, 4)).null()}
    assert torch.equal(net(x, t, None, nothing), net(x, t))
    with pytest.raises(ValueError, match=r"context must have shape \[2, 3, 4\], got \[2, 3, 6\]"):
        net(x, t, None, {"context": Signal.clean(torch.randn(2, 3, 6))})
    with pytest.raises(ValueError, match="context must be 0 or a multiple of 2, got 3"):
        UNetConfig(patch=1, context=3, **SMALL)


@pytest.mark.parametrize("context", [0, 4])
def test_a_margin_is_seen_by_the_network_alone(context: int) -> None:
    """Its places have features, through which the signal's last places learn what would follow them."""
    config = UNetConfig(
        channels=3, dims=1, patch=1, context=context, margin=2, position_sizes=(8,), gated_skip=True, **SMALL
    )
    net = loud(config)
    x, t = inputs(config)
    base = net(x, t)
    assert base.shape == x.shape
    assert net.position_embedding is not None
    assert net.position_embedding.table.shape[-1] == context + 8 + 2
    with torch.no_grad():
        net.position_embedding.table[:, -1] += torch.randn(net.position_embedding.table.shape[0])
    assert not torch.allclose(net(x, t)[..., -1], base[..., -1], atol=1e-4)
    net(x, t).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with pytest.raises(ValueError, match="margin must be 0 or a multiple of 2, got 3"):
        UNetConfig(patch=1, margin=3, **SMALL)
