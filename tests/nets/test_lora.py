"""Low-rank adapters: nothing changes at first, what should is trained, and a file's tensors give the same weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import jvp

from unistep.nets.lora import LowRank, add_lora, lora_tensors, merged
from unistep.nets.unet_config import UNetConfig

NETWORK = UNetConfig(widths=(16, 32), blocks=(1, 1), middle_blocks=1, embedding_dim=32, head_dim=16, num_classes=3)


def network() -> nn.Module:
    """A network none of whose layers is zero."""
    torch.manual_seed(0)
    net = NETWORK.build().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def trained(net: nn.Module) -> nn.Module:
    """The network as if it had been trained: all that is trainable has moved."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return net


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(3, 1, 8, 8), torch.rand(3)


def test_nothing_changes_at_first_and_the_tangent_is_that_of_the_base() -> None:
    base, net = network(), network()
    names = add_lora(net, 2, 2.0, base.state_dict())
    x, t = inputs()
    assert torch.equal(net(x, t), base(x, t))
    direction = (torch.randn_like(x), torch.ones_like(t))
    ours, theirs = (jvp(lambda x, t, n=n: n(x, t), (x, t), direction)[1] for n in (net, base))
    assert torch.equal(ours, theirs)
    assert any("down" in name for name in names)
    assert len(names) == len(set(names))


def test_weights_are_adapted_where_that_is_smaller_and_all_else_is_trained_whole() -> None:
    net = network()
    known = net.state_dict()
    names = add_lora(net, 2, 2.0, known)
    for name, weight in known.items():
        factors = 2 * (len(weight) + weight.numel() // len(weight))
        assert (name in names) == (weight.ndim >= 2 and 2 * factors < weight.numel())
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert {name.replace(".parametrizations", "").removesuffix(".original") for name in frozen} == set(names)
    with pytest.raises(ValueError, match="no weight matrix that a LoRA of rank 64 would be smaller than"):
        add_lora(network(), 64, 64.0, known)


def test_what_the_base_lacks_is_trained_whole() -> None:
    net = network()
    known = net.state_dict()
    left_out = next(name for name in add_lora(network(), 2, 2.0, known))
    names = add_lora(net, 2, 2.0, {name: value for name, value in known.items() if name != left_out})
    assert left_out not in names
    assert dict(net.named_parameters())[left_out].requires_grad


@pytest.mark.parametrize("strength", [1.0, 0.0, 0.3, -1.0])
def test_a_file_gives_the_weights_that_the_network_had(strength: float) -> None:
    base, net = network(), network()
    add_lora(net, 2, 6.0, base.state_dict())
    trained(net)
    tensors = lora_tensors(net.state_dict())
    whole = merged(base.state_dict(), base.state_dict().keys(), tensors, 3.0, strength)
    again = network()
    again.load_state_dict(whole)
    x, t = inputs()
    if strength == 0:
        assert all(torch.equal(whole[name], value) for name, value in base.state_dict().items())
    for module in net.modules():
        if isinstance(module, LowRank):
            module.scale *= strength
    for name, p in net.named_parameters():
        if "parametrizations" not in name:
            p.data = base.state_dict()[name].lerp(p.data, strength)
    torch.testing.assert_close(again(x, t), net(x, t), rtol=1e-5, atol=1e-6)
    count = sum(value.numel() for value in tensors.values())
    assert count < 0.6 * sum(value.numel() for value in base.state_dict().values())


def test_tensors_of_another_network_are_named() -> None:
    base, net = network(), network()
    add_lora(net, 2, 2.0, base.state_dict())
    tensors, state = lora_tensors(net.state_dict()), base.state_dict()
    up = next(name for name in tensors if name.endswith("lora_up"))
    for changed, message in (
        ({**tensors, "intruder": torch.zeros(2)}, "there is no weight 'intruder'"),
        ({**tensors, up: tensors[up][:-1]}, "does not fit a weight of shape"),
        ({name: value for name, value in tensors.items() if name != up.replace("_up", "_down")}, "does not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            merged(state, state.keys(), changed, 1.0, 1.0)


def test_what_begins_at_zero_scales_too_and_other_new_weights_stay_as_trained() -> None:
    start = {"known": torch.ones(2), "silent": torch.zeros(2), "fresh": torch.ones(2)}
    ended = {name: value + 2 for name, value in start.items()}
    half = merged(start, {"known"}, ended, 1.0, 0.5)
    assert [half[name].tolist() for name in start] == [[2, 2], [1, 1], [3, 3]]


def test_any_module_and_a_copy_of_it() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(40, 40), nn.MultiheadAttention(40, 2, batch_first=True), nn.Conv1d(40, 40, 3))
    net.register_parameter("own", nn.Parameter(torch.randn(40, 40)))
    table = nn.ParameterDict({"a": torch.randn(40, 40)})
    net.add_module("table", table)
    names = add_lora(net, 2, 2.0, net.state_dict())
    assert set(names) == {"0.weight", "1.in_proj_weight", "1.out_proj.weight", "2.weight", "own"}
    assert torch.equal(table["a"], net.state_dict()["table.a"])
    twin = copy.deepcopy(net)
    x = torch.randn(2, 5, 40)
    attended = net[1](x, x, x)[0]
    torch.testing.assert_close(twin[1](x, x, x)[0], attended)
    attended.sum().backward()
    assert net[1].parametrizations.in_proj_weight[0].up.grad is not None  # type: ignore[union-attr]


class Elsewhere(nn.Module):
    """A network with a weight of its own, and layers whose weights others compute."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(40, 40))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(40, 40))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(40, 40)).eval()
        self.last = nn.Linear(40, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.spectral(self.normed(x @ self.table)))


def test_a_file_holds_weights_of_the_network_itself_and_those_that_others_compute() -> None:
    base, net = Elsewhere(), Elsewhere()
    assert add_lora(net, 2, 2.0, base.state_dict()) == ["table", "last.weight"]
    trained(net)
    again = Elsewhere()
    again.load_state_dict(merged(base.state_dict(), base.state_dict().keys(), lora_tensors(net.state_dict()), 1.0, 1.0))
    x = torch.randn(3, 40)
    torch.testing.assert_close(again(x), net(x), rtol=1e-4, atol=1e-4)
