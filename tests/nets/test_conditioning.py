"""Conditions that are arrays in the U-Net: tokens that are attended to, and reference signals."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unistep.core.condition import LabelField, ScalarField, Signal, SignalField, Tokens, TokensField, Value
from unistep.nets.unet import UNet, UNetConfig

PLAIN = UNetConfig(widths=(16, 32), blocks=(1, 1), embedding_dim=32, head_dim=16, attention=(0,), dims=2)
CONFIG = replace(PLAIN, tokens={"text": 5}, signals={"source": 3})


def loud(config: UNetConfig) -> UNet:
    """A network in evaluation mode none of whose layers is zero."""
    torch.manual_seed(0)
    net = config.build().eval()
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return net


def inputs(batch: int = 3) -> tuple[Tensor, Tensor, dict[str, Value]]:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(batch, 1, 8, 8, generator=generator), torch.randn(batch, generator=generator)
    tokens = torch.randn(batch, 4, 5, generator=generator)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:batch, None]
    source = torch.randn(batch, 3, 8, 8, generator=generator)
    return x, t, {"text": Tokens(tokens, mask), "source": Signal.clean(source)}


@pytest.mark.parametrize("name", ["text", "source"])
def test_each_item_depends_on_its_own_condition(name: str) -> None:
    net = loud(CONFIG)
    x, t, condition = inputs()
    base = net(x, t, None, condition)
    other = condition | {name: condition[name].select([0, 2, 1])}
    changed = (net(x, t, None, other) - base).abs().amax(dim=(1, 2, 3))
    assert changed[0] < 1e-5
    assert changed[1:].min() > 1e-3
    null = net(x, t, None, condition | {name: condition[name].null()})
    assert (null - base).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    without = net(x, t, None, {key: value for key, value in condition.items() if key != name})
    torch.testing.assert_close(null, without)


def test_tokens_that_do_not_count_change_nothing() -> None:
    net = loud(CONFIG)
    x, t, condition = inputs()
    text = condition["text"]
    assert isinstance(text, Tokens)
    noisy = Tokens(torch.where(text.mask[..., None], text.tokens, 1e3), text.mask)
    torch.testing.assert_close(net(x, t, None, condition | {"text": noisy}), net(x, t, None, condition))
    longer = Tokens.concat([text, Tokens.whole(torch.randn(1, 7, 5))]).select(slice(0, 3))
    torch.testing.assert_close(net(x, t, None, condition | {"text": longer}), net(x, t, None, condition))


def test_a_reference_is_found_where_it_is() -> None:
    """Its features are added to those of the signal at the same position."""
    net = loud(CONFIG)
    x, t, condition = inputs(batch=1)
    seen: list[Tensor] = []
    net.down[0][0][0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[index]
    source = condition["source"]
    assert isinstance(source, Signal)
    changed = source.signal.clone()
    changed[..., 7, 7] += 1
    for signal in (source.signal, changed):
        net(x, t, None, condition | {"source": Signal.clean(signal)})
    where = (seen[0] - seen[1]).abs().amax(dim=(0, 1)) > 0
    assert where[2:, 2:].all()
    assert int(where.sum()) == 4  # the corner of a signal of 4x4, folded, and its neighbours


def test_weights_of_a_network_without_them_begin_unchanged() -> None:
    plain = loud(PLAIN)
    torch.manual_seed(3)
    fresh = PLAIN.build()
    torch.manual_seed(3)
    assert all(
        torch.equal(a, b)
        for a, b in zip(fresh.parameters(), replace(CONFIG, tokens={}, signals={}).build().parameters(), strict=True)
    )
    net = CONFIG.build().eval()
    assert CONFIG.differences(PLAIN) == []
    assert PLAIN.differences(CONFIG)
    CONFIG.start_from(net, plain.state_dict(), PLAIN)
    x, t, condition = inputs()
    torch.testing.assert_close(net(x, t, None, condition), plain(x, t))


def test_a_network_is_fitted_to_fields_of_every_kind() -> None:
    fields: dict[str, Any] = {
        "label": LabelField(size=3),
        "force": ScalarField(low=0, high=2),
        "text": TokensField(length=4, dim=5),
        "source": SignalField(shape=(3, 8, 8)),
    }
    fitted = PLAIN.fitted((1, 8, 8), fields)
    assert (fitted.tokens, fitted.signals, fitted.num_classes, fitted.scalars) == (
        {"text": 5}, {"source": 3}, 3, {"force": 2},
    )  # fmt: skip
    assert fitted.context == 0
    with pytest.raises(ValueError, match=r"source must have the spatial size \[8, 8\], got \[4, 8\]"):
        PLAIN.fitted((1, 8, 8), {"source": SignalField(shape=(3, 4, 8))})


def test_the_derivative_is_that_of_a_finite_difference() -> None:
    net = loud(CONFIG).double()
    x, t, condition = inputs()
    x, t = x.double(), t.double()
    direction = (torch.randn_like(x), torch.ones_like(t))
    _, got = torch.func.jvp(lambda x, t: net(x, t, None, condition), (x, t), direction)
    h = 1e-5
    ahead, behind = (net(x + k * direction[0], t + k, None, condition) for k in (h, -h))
    torch.testing.assert_close(got, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6)


def test_it_is_exported_and_compiled_as_one_graph() -> None:
    net = loud(CONFIG)
    x, t, condition = inputs()
    wanted = net(x, t, None, condition)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's compiler and exporter warn about their own internals
        program = torch.export.export(net, (x, t, None, condition))
        compiled = torch.compile(net, fullgraph=True, backend="eager")  # one graph or an error
        torch.testing.assert_close(compiled(x, t, None, condition), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(program.module()(x, t, None, condition), wanted, rtol=1e-4, atol=1e-5)


def test_a_reference_stands_beside_its_signal_where_there_is_a_context() -> None:
    config = UNetConfig(
        channels=3, dims=1, patch=1, context=4, margin=2, widths=(16, 32), blocks=(1, 1), embedding_dim=32, head_dim=16,
        signals={"source": 2},
    )  # fmt: skip
    net = loud(config)
    x, t = torch.randn(2, 3, 8), torch.randn(2)
    source = Signal.clean(torch.randn(2, 2, 8))
    assert net(x, t, None, {"source": source}).shape == x.shape
    assert not torch.allclose(net(x, t, None, {"source": source}), net(x, t), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("source", Signal.clean(torch.zeros(3, 3, 4, 8)), r"must have shape \[3, 3, 8, 8\], got \[3, 3, 4, 8\]"),
        ("text", Tokens.whole(torch.zeros(3, 2, 6)), r"tokens must have 5 features, got \[3, 2, 6\]"),
    ],
)
def test_values_of_another_shape_are_refused(name: str, value: Value, message: str) -> None:
    x, t, condition = inputs()
    with pytest.raises(ValueError, match=message):
        CONFIG.build()(x, t, None, condition | {name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": {"text": 0}}, "tokens features and signals channels"),
        ({"signals": {"label": 1}}, "conditions need names of their own"),
        ({"signals": {"text": 1}}, "conditions need names of their own"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
