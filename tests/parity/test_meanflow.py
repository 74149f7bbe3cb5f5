"""MeanFlow's loss, its gradient and its law of times against numbers of the authors' PyTorch code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from parity.reference import reference, signal
from two_times import GivenPairs
from unistep.core.flowmap import FlowMap
from unistep.core.path import LinearFlow, expand_to
from unistep.objectives.meanflow import MeanFlow, MeanFlowConfig
from unistep.objectives.time_pairs import LogitNormalPairs

NUMBERS = reference("meanflow")
LAWS = {
    "v0": LogitNormalPairs(mean=-2.0, std=2.0, mean_r=-2.0, std_r=2.0, order="swap"),
    "v1": LogitNormalPairs(),
}


class Toy(FlowMap):
    """The toy network of the numbers, which answers the average velocity itself."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), LinearFlow())
        self.gain = nn.Parameter(torch.tensor(0.8))

    def velocity(self, x: Tensor, t: Tensor, s: Tensor, condition: object = None) -> Tensor:
        t_full, h = expand_to(t, x), expand_to(t - s, x)
        wave = (1.3 * x + t_full - 0.5 * h).sin()
        return self.gain * wave + 0.3 * x.mean(dim=(1, 2, 3), keepdim=True) * h + 0.2


@pytest.mark.parametrize("power", ["0.0", "0.75", "1.0"])
@pytest.mark.parametrize("index", range(8))
def test_meanflow_loss_and_gradient(index: int, power: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, shape = NUMBERS["cases"][index], NUMBERS["shape"]
    noise = signal(case["noise"], shape)
    monkeypatch.setattr("unistep.objectives.meanflow.randn_like", lambda x, generator: noise)
    student = Toy()
    config = MeanFlowConfig(times=GivenPairs(t=(case["t"],), r=(case["r"],)), power=float(power), eps=NUMBERS["eps"])
    loss = MeanFlow(student, config)(signal(case["x0"], shape), {}, generator=None, progress=0.0).per_example
    loss.sum().backward()
    assert loss.item() == pytest.approx(case["loss"][power], rel=2e-5)
    assert student.gain.grad is not None
    assert student.gain.grad.item() == pytest.approx(case["slope"][power], rel=1e-4)


@pytest.mark.parametrize("name", ["v0", "v1"])
def test_laws_of_the_two_times(name: str) -> None:
    numbers = NUMBERS["laws"][name]
    ratios = LAWS[name].draw(500_000, torch.Generator().manual_seed(3))
    t, r = (LinearFlow().time_at(ratio) for ratio in ratios)
    levels = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    for key, values in {"t": t, "r": r, "gap": t - r}.items():
        torch.testing.assert_close(values.quantile(levels), torch.tensor(numbers[key]), rtol=0.02, atol=1e-3)
    assert (t == r).double().mean().item() == pytest.approx(numbers["equal"], abs=0.003)
