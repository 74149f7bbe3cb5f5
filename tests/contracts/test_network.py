"""What every network does, ours and one of another package: the contract of ``nets/config.py``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tolerance import rounding
from unistep import registry
from unistep.core.condition import (
    Label,
    LabelField,
    Scalar,
    ScalarField,
    Signal,
    SignalField,
    Tokens,
    TokensField,
    Vector,
    VectorField,
)
from unistep.nets.config import NetworkConfig
from unistep.serialization import from_plain, to_plain

ELSEWHERE = Path(__file__).parent / "elsewhere"
SIDE = 8
OPTIONS: dict[str, dict[str, Any]] = {
    "unet": {"widths": (8, 16), "blocks": (1, 1), "embedding_dim": 16, "head_dim": 8, "attention": (1,)},
    "dit": {"width": 16, "depth": 2, "head_dim": 8, "embedding_dim": 16, "patch": 2},
    "space-time-unet": {
        "dims": 2,
        "widths": (8, 16),
        "blocks": (1, 1),
        "embedding_dim": 16,
        "head_dim": 8,
        "attention": (1,),
    },
    "perceptron": {"hidden": 8},
}
"""A small network of each name, the last of another package."""
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "unet": [{}, {"double_norm": True}, {"margin": 4}],
    "dit": [{}, {"double_norm": True, "positions": "both"}, {"gated_skip": True, "positions": "absolute", "patch": 4}],
    "space-time-unet": [
        {},
        {"causal": True, "gated_skip": True},
        {"halve_time": True, "double_norm": True, "patch": 1},
    ],
    "perceptron": [{}],
}
SHALLOW: dict[str, dict[str, Any]] = {
    "unet": {"widths": (8,), "blocks": (1,), "middle_blocks": 1, "attention": ()},
    "dit": {"depth": 1},
    "space-time-unet": {"widths": (8,), "blocks": (1,), "attention": ()},
    "perceptron": {},
}
CASES = [pytest.param(name, options, id=f"{name}-{i}") for name in OPTIONS for i, options in enumerate(VARIANTS[name])]
every_network = pytest.mark.parametrize(("name", "options"), CASES)
FIELDS: dict[str, Any] = {
    "label": LabelField(size=3),
    "pitch": LabelField(size=5),
    "force": ScalarField(low=0, high=2),
    "augmentation": VectorField(size=5),
    "text": TokensField(length=4, dim=6),
    "source": SignalField(shape=(2, SIDE, SIDE)),
}


@pytest.fixture(scope="module", autouse=True)
def _plugin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ELSEWHERE))
        patch.setattr(registry, "_plugins_loaded", False)
        yield


def config_of(name: str, options: dict[str, Any] | None = None, *, channels: int = 2, fields: Any = None) -> Any:
    config = registry.lookup("network", name)(**{**OPTIONS[name], **(options or {})})
    try:
        return config.fitted((channels, SIDE, SIDE), FIELDS if fields is None else fields)
    except ValueError:  # takes labels and numbers only
        assert fields is None
        return config.fitted((channels, SIDE, SIDE), {k: f for k, f in FIELDS.items() if f.kind in ("label", "scalar")})


def trained(config: NetworkConfig) -> nn.Module:
    """A network in evaluation mode none of whose weights is as it starts."""
    torch.manual_seed(0)
    net = config.build().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    return net


def inputs(batch: int = 3, channels: int = 2) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    g = torch.Generator().manual_seed(1)
    x, t = torch.randn(batch, channels, SIDE, SIDE, generator=g), torch.randn(batch, generator=g)
    condition = {
        "label": Label(torch.arange(batch) % 3),
        "pitch": Label(torch.arange(batch) % 5),
        "force": Scalar(torch.rand(batch, generator=g) + 0.5),
        "augmentation": Vector(torch.randn(batch, 5, generator=g)),
        "text": Tokens.whole(torch.randn(batch, 4, 6, generator=g)),
        "source": Signal.clean(torch.randn(batch, 2, SIDE, SIDE, generator=g)),
    }
    return x, t, t - 0.5, condition


def taken(config: NetworkConfig, condition: dict[str, Any]) -> dict[str, Any]:
    """The conditions that the network was fitted to."""
    plain = str(to_plain(config))
    return {name: value for name, value in condition.items() if name == "label" or f"'{name}'" in plain}


def test_every_network_is_tried() -> None:
    assert set(registry._BUILT_IN["network"]) == set(OPTIONS) - {"perceptron"}


@every_network
def test_it_starts_at_zero_and_gives_what_is_like_its_input(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options).with_second_time(True)
    x, t, s, condition = inputs()
    fresh = config.build()(x, t, s, condition)
    assert fresh.shape == x.shape
    assert not fresh.any()
    assert trained(config)(x, t, s, condition).std() > 0
    assert config.described
    assert all(size % config.multiple == 0 for size in x.shape[2:])


@every_network
def test_its_configuration_is_read_back(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options)
    plain = to_plain(config)
    assert from_plain(type(config), {key: value for key, value in plain.items() if key != "type"}) == config


@every_network
def test_each_item_depends_on_its_own_condition_and_a_null_one_is_none(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options)
    net = trained(config).double()
    x, t, s, condition = inputs()
    x, t, s = x.double(), t.double(), s.double()
    known = taken(config, condition)
    assert len(known) >= 2
    base = net(x, t, s, condition)
    for key, value in known.items():
        other = net(x, t, s, condition | {key: value.select([0, 2, 1])})
        changed = (other - base).abs().amax(dim=(1, 2, 3))
        assert changed[0] < 1e-12
        assert changed[1:].min() > 1e-6
        null = net(x, t, s, condition | {key: value.null()})
        left_out = net(x, t, s, {k: v for k, v in condition.items() if k != key})
        assert (null - base).abs().amax(dim=(1, 2, 3)).min() > 1e-6
        torch.testing.assert_close(null, left_out, rtol=0, atol=1e-12)
    alone = net(x[:1], t[:1], s[:1], {key: value.select([0]) for key, value in condition.items()})
    torch.testing.assert_close(alone, base[:1], rtol=0, atol=1e-12)


@every_network
def test_its_forward_derivative_is_that_of_a_difference(name: str, options: dict[str, Any]) -> None:
    """Through attention, in double precision, in the direction of everything at once."""
    net = trained(config_of(name, options).with_second_time(True)).double()
    x, t, s, condition = inputs()
    point = (x.double(), t.double(), s.double())
    direction = (torch.randn_like(point[0]), torch.ones_like(point[1]), torch.full_like(point[2], -0.7))

    def call(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return net(x, t, s, condition)

    _, tangent = torch.func.jvp(call, point, direction)
    h = 1e-5
    ahead, behind = (call(*(p + k * d for p, d in zip(point, direction, strict=True))) for k in (h, -h))
    assert tangent.abs().mean() > 1e-3
    # The error of the difference: third derivatives times h squared, and float64 rounding divided by h.
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-6)


@every_network
def test_all_weights_learn_from_any_batch(name: str, options: dict[str, Any]) -> None:
    """Also beside a tangent, and where the conditions are null: DDP waits for the gradient of every parameter."""
    config = config_of(name, options).with_second_time(True)
    net = trained(config)
    x, t, s, condition = inputs()
    ones = (torch.randn_like(x), torch.ones_like(t))
    value, tangent = torch.func.jvp(lambda x, t: net(x, t, s, condition), (x, t), ones)
    (value - tangent.detach()).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    net.zero_grad()
    net(x, t, s, {key: value.null() for key, value in condition.items()}).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


@every_network
def test_equal_levels_of_all_parts_are_one_level(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options).with_second_time(True)
    net = trained(config).double()
    x, t, s, condition = inputs()
    x, t, s = x.double(), t.double(), s.double()
    wanted = net(x, t, s, condition)
    for sizes in ((SIDE, 1), (1, SIDE), (SIDE, SIDE)):
        each = [u.view(-1, 1, 1, 1).expand(-1, 1, *sizes) for u in (t, s)]
        for times in (each, (each[0], s)):
            found = net(x, *times, condition)
            # Sums over the features of a layer, each rounded once a term.
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=rounding(5000, 1.0, torch.float64))
    moved = t.view(-1, 1, 1, 1).repeat(1, 1, SIDE, 1)
    moved[:, :, 0] += 0.5
    assert (net(x, moved, s, condition) - wanted).abs().amax() > 1e-6


@pytest.mark.parametrize("name", OPTIONS)
def test_it_is_exported_and_compiled_as_one_graph(name: str) -> None:
    """The smallest of each kind: tracing takes a second for each ten layers."""
    config = config_of(name, SHALLOW[name], fields=None)
    net = trained(config)
    x, t, s, condition = inputs()
    condition = taken(config, condition)
    wanted = net(x, t, s, condition)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's compiler and exporter warn about their own internals
        program = torch.export.export(net, (x, t, s, condition))
        with torch.no_grad():  # the graph of the gradient too would take twice as long
            compiled = torch.compile(net, fullgraph=True, backend="aot_eager")(x, t, s, condition)
    torch.testing.assert_close(program.module()(x, t, s, condition), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled, wanted, rtol=1e-4, atol=1e-5)


@every_network
def test_it_runs_in_bfloat16(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options).with_second_time(True)
    net = trained(config)
    x, t, s, condition = inputs()
    wanted = net(x, t, s, condition)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x, t, s, condition)
    found.float().square().mean().backward()
    # Rounding of 2**-9 in each of some tens of layers, which add up as their square root.
    assert (found.float() - wanted).square().mean().sqrt() < 0.1 * wanted.square().mean().sqrt()


@every_network
def test_it_starts_from_weights_without_its_conditions(name: str, options: dict[str, Any]) -> None:
    wide, plain = config_of(name, options).with_second_time(True), config_of(name, options, fields={})
    if wide.differences(plain):  # a network may only start from its like
        assert plain.differences(plain) == []
        return
    theirs, ours = trained(plain), wide.build().eval()
    wide.start_from(ours, theirs.state_dict(), plain)
    x, t, s, condition = inputs()
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, s, condition), theirs(x, t), rtol=0, atol=1e-5)
    assert plain.differences(wide)


@every_network
def test_a_network_of_another_kind_cannot_start_it(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options)
    for other in OPTIONS:
        different = config.differences(config_of(other))
        assert any("type" in text for text in different) == (other != name)
    assert config.differences(config) == []


@every_network
def test_the_previous_frames_are_shown_where_it_takes_them(name: str, options: dict[str, Any]) -> None:
    fields = {"context": SignalField(shape=(2, SIDE, 4), before=True)}
    config = registry.lookup("network", name)(**{**OPTIONS[name], **options})
    if config.previous_frames is None:  # takes none, and says so
        with pytest.raises(ValueError, match="context"):
            config.fitted((2, SIDE, SIDE), fields)
        return
    config = config.fitted((2, SIDE, SIDE), fields)
    assert config.previous_frames == 4
    net = trained(config)
    x, t, _, _ = inputs()
    t = t.view(-1, 1, 1, 1).repeat(1, 1, 1, SIDE)
    context = Signal(torch.randn(3, 2, SIDE, 4), torch.tensor([0.1, 0.2, torch.nan]))
    base = net(x, t, None, {"context": context})
    assert base.shape == x.shape
    for other in (replace(context, signal=context.signal + 0.5), replace(context, level=context.level + 0.3)):
        assert not torch.allclose(net(x, t, None, {"context": other})[0], base[0], atol=1e-4)
    with pytest.raises(ValueError, match=r"context must have shape \[3, 2, 8, 4\], got \[3, 2, 8, 2\]"):
        net(x, t, None, {"context": Signal.clean(torch.zeros(3, 2, SIDE, 2))})


@every_network
def test_frames_of_the_past_that_lie_where_the_signal_does_are_a_second_input(
    name: str, options: dict[str, Any]
) -> None:
    config = registry.lookup("network", name)(**{**OPTIONS[name], **options})
    if config.previous_frames is None:
        return
    config = config.fitted((2, SIDE, SIDE), {"context": SignalField(shape=(6, SIDE, SIDE))})
    assert config.previous_frames == 0
    assert config.signals == {"context": 6}
    net = trained(config)
    x, t, _, _ = inputs()
    context = Signal(torch.randn(3, 6, SIDE, SIDE), torch.tensor([0.1, 0.2, torch.nan]))
    base = net(x, t, None, {"context": context})
    for other in (replace(context, signal=context.signal + 0.5), replace(context, level=context.level + 0.3)):
        out = net(x, t, None, {"context": other})
        assert not torch.allclose(out[0], base[0], atol=1e-4)
        assert torch.equal(out[2], base[2])


@every_network
def test_stages_are_maps_of_each_item(name: str, options: dict[str, Any]) -> None:
    config = config_of(name, options)
    net: Any = trained(config)
    if not hasattr(net, "stages"):
        assert name == "perceptron"  # which has no maps
        return
    x, t, _, condition = inputs()
    given = taken(config, condition)

    def maps(x: Tensor, t: Tensor, given: dict[str, Any]) -> list[Tensor]:
        outputs: list[Tensor] = []
        stages = net.stages()
        handles = [
            stage.register_forward_hook(lambda module, inputs, output: outputs.append(output)) for stage in stages
        ]
        with torch.no_grad():
            net(x, t, None, given)
        for handle in handles:
            handle.remove()
        assert 0 < len(outputs) == len(stages) < 10
        return [net.stage_map(output, len(x)) for output in outputs]

    found = maps(x, t, given)
    second = maps(x[1:2], t[1:2], {key: value.select(slice(1, 2)) for key, value in given.items()})
    for batch, item in zip(found, second, strict=True):
        assert batch.dim() > 2
        assert batch.shape[0] == 3
        torch.testing.assert_close(batch[1:2], item, rtol=1e-3, atol=1e-4)
