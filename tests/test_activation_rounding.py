"""The script that rounds weights by what layers are given: closed forms, and what a file keeps of it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unistep.quantized import quantize, relative_steps, restore, row_steps

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        return importlib.import_module("activation_rounding")


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_inputs_that_know_nothing_of_each_other_leave_rounding_as_it_is(script: Any) -> None:
    rows, steps = gaussian(6, 40).double(), torch.full((6,), 0.25, dtype=torch.bfloat16)
    assert torch.equal(script.rounded_rows(rows, torch.eye(40).double(), steps), (rows * 4).round() / 4)


def test_two_inputs_that_are_equal_share_their_errors(script: Any) -> None:
    steps = torch.ones(1, dtype=torch.bfloat16)
    found = script.rounded_rows(torch.tensor([[0.4, 0.4]]), torch.ones(2, 2).double(), steps)
    assert float(found.sum()) == 1.0, found  # plain rounding gives 0, and 0.8 is wanted


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(7, 5, bias=False), gaussian(3, 4, 7)),
        (nn.Conv1d(3, 5, 3, stride=2, padding=1, bias=False), gaussian(2, 3, 9)),
        (nn.Conv2d(3, 5, (3, 2), padding=(1, 0), padding_mode="reflect", bias=False), gaussian(2, 3, 6, 5)),
        (nn.Conv3d(2, 5, 2, stride=2, bias=False), gaussian(2, 2, 4, 4, 4)),
    ],
)
def test_inputs_are_what_the_rows_are_multiplied_with(script: Any, layer: Any, x: Tensor) -> None:
    with torch.no_grad():
        outputs = layer(x) if isinstance(layer, nn.Linear) else layer(x).movedim(1, -1)
        rows = script.inputs(layer, x, torch.Generator().manual_seed(0)) @ layer.weight.flatten(1).T
    distances = torch.cdist(rows, outputs.reshape(-1, 5), compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.amin(dim=1).max() < 1e-5
    assert len({int(i) for i in distances.argmin(dim=1)}) > 3


def test_outputs_move_less_and_a_file_keeps_every_value(script: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 24, 3, padding=1), nn.Conv2d(24, 8, 3, padding=1))
    smooth = nn.functional.avg_pool2d(gaussian(4, 8, 20, 20), 5, 1)
    exact = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        wanted = net(smooth)
        net.load_state_dict(restore(*quantize(exact, 5)))
        plain = (net(smooth) - wanted).square().mean()
        net.load_state_dict(exact)
        script.round_layers(net, 5, lambda: _use(net, smooth))
        found = (net(smooth) - wanted).square().mean()
    assert found < plain / 2, (found, plain)
    kept = restore(*quantize(net.state_dict(), 5))
    assert torch.equal(kept["0.weight"], net[0].weight)
    assert torch.equal(kept["1.weight"], net[1].weight)
    steps = row_steps(exact["0.weight"].double().flatten(1), relative_steps(exact, 5)["0.weight"])
    assert (kept["0.weight"].flatten(1) / steps.float()[:, None]).frac().abs().max() == 0


def _use(net: nn.Module, x: Tensor) -> None:
    net(x)
