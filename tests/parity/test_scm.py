"""sCM's loss and its gradient against numbers of an implementation by others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analytic import TanhNet, WavyNet
from parity.reference import GivenLevels, reference, signal
from tolerance import SAFETY
from unistep.core.flowmap import ConsistencyModel, Denoiser
from unistep.core.path import TrigFlow, VarianceExploding
from unistep.objectives.scm import ContinuousConsistency, SCMConfig

NUMBERS = reference("scm")
ROWS: list[dict[str, Any]] = NUMBERS["rows"]


class Gained(WavyNet):
    """With a parameter, so that there is a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return self.gain * super().forward(x, t, s, condition)


class Given(nn.Module):
    """A weight that answers the stored numbers, whatever the noise level; theirs is the negative of ours."""

    def forward(self, code: Tensor) -> Tensor:
        return -torch.tensor(NUMBERS["logvar"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['target']}-{row['derivative']}-{row['iteration']}")
def test_losses_and_gradients(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x0, noise = (signal(NUMBERS[name], NUMBERS["shape"]) for name in ("x0", "noise"))
    monkeypatch.setattr("unistep.objectives.scm.randn_like", lambda x, generator: noise)
    net, warmup = Gained(), 0.5
    config = SCMConfig(
        times=GivenLevels(levels=tuple(NUMBERS["sigma"])), target=row["target"], warmup=warmup,
        derivative=row["derivative"], c=NUMBERS["c"],
    )  # fmt: skip
    student = ConsistencyModel(net, TrigFlow(), 0.5, boundary=0.0)
    objective = ContinuousConsistency(student, Denoiser(TanhNet(), VarianceExploding()), config)
    objective.weight = Given()  # type: ignore[assignment]
    progress = min(1.0, warmup * row["iteration"] / row["warmup_steps"])
    loss = objective(x0, {}, generator=None, progress=progress).per_example
    (slope,) = torch.autograd.grad(loss.mean(), net.gain)
    # A central difference of float32 values loses eps over its step; theirs is taken in another direction's units.
    bound = 1e-4 if row["derivative"] == "exact" else SAFETY * torch.finfo(torch.float32).eps / config.step
    torch.testing.assert_close(loss.detach(), torch.tensor(row["loss"]), rtol=bound, atol=bound / 10)
    assert slope.item() == pytest.approx(row["slope"], rel=bound)
    if "prediction" in row:
        t = student.path.time_at(torch.tensor(NUMBERS["sigma"]))
        torch.testing.assert_close(
            student(student.path.perturb(x0, noise, t), t).detach(),
            signal(row["prediction"], NUMBERS["shape"]),
            rtol=1e-4,
            atol=1e-5,
        )
