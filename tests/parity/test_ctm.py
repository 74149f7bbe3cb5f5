"""Consistency trajectory models against numbers of the authors' code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analytic import TanhNet, WavyNet
from parity.reference import GivenLevels, reference
from unistep.core.flowmap import Denoiser, FlowMap
from unistep.core.path import VarianceExploding
from unistep.objectives.ctm import ConsistencyTrajectory, CTMConfig
from unistep.objectives.distance import SquaredL2

VE = VarianceExploding()
NUMBERS: dict[str, Any] = reference("ctm")


def stored(values: list[float], shape: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(shape)


class Student(nn.Module):
    """A fixed network with a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = WavyNet()
        self.kernel = nn.Parameter(stored(NUMBERS["kernel"], [1, 1, 3, 3]))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return F.conv2d(self.body(x, t, s, condition), self.kernel, padding=1)


class Target(nn.Module):
    """The network that stands for the student's average."""

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return 0.8 * WavyNet()(x, t, s, condition) - 0.05


@pytest.mark.parametrize("bridge", ["student", "target"])
@pytest.mark.parametrize("row", NUMBERS["rows"], ids=lambda row: f"{row['steps']}-steps")
def test_losses_are_those_of_the_authors(row: dict[str, Any], bridge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, module = NUMBERS["shape"], "unistep.objectives.ctm"
    noises = [stored(NUMBERS[name], shape) for name in ("noise", "denoising_noise")]
    first, last = torch.tensor(row["first"]), torch.tensor(row["last"])
    share = (last + 0.5) / (first - row["steps"] + 1)  # in the middle of the index that it is to choose
    monkeypatch.setattr(f"{module}.randn_like", lambda x, generator: noises.pop(0))
    monkeypatch.setattr(f"{module}.draw_steps", lambda most, power, generator: row["steps"])
    monkeypatch.setattr(f"{module}.randint", lambda high, num, generator: first - row["steps"])
    monkeypatch.setattr(f"{module}.uniform", lambda num, generator: share)
    seen: dict[str, Tensor] = {}

    def metric(answer: Tensor, wanted: Tensor) -> Tensor:
        seen.update(answer=answer, wanted=wanted)
        return SquaredL2()(answer, wanted)

    config = CTMConfig(
        bridge=bridge,  # type: ignore[arg-type]
        balance="adaptive",
        denoising_times=GivenLevels(levels=tuple(NUMBERS["sigma"])),
    )
    objective = ConsistencyTrajectory(FlowMap(Student(), VE), Denoiser(TanhNet(), VE), config, metric)
    objective.target = FlowMap(Target(), VE)
    solved: list[Tensor] = []
    solve = objective.solved
    monkeypatch.setattr(objective, "solved", lambda *args: solved.append(solve(*args)) or solved[-1])
    loss = objective(stored(NUMBERS["x0"], shape), {}, generator=None, progress=0.0)

    close = {"rtol": 1e-4, "atol": 1e-5}  # our levels are in float32
    torch.testing.assert_close(solved[0], stored(row["solved"], shape), **close)
    torch.testing.assert_close(seen["answer"], stored(row["estimate"], shape), **close)
    torch.testing.assert_close(seen["wanted"], stored(row[bridge], shape), **close)
    denoising = torch.tensor(row["denoising"], dtype=torch.float64)
    if bridge == "student":
        # The authors add 1e-4 to the norm that they divide by.
        assert loss.logs["ctm/denoising_weight"].item() == pytest.approx(row["balance"], rel=2e-3)
    weight = loss.logs["ctm/denoising_weight"]
    wanted = SquaredL2()(seen["answer"], seen["wanted"]) + weight * denoising
    torch.testing.assert_close(loss.per_example, wanted, rtol=1e-4, atol=1e-5)
