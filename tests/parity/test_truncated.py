"""Truncated consistency training against numbers of its authors' code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from analytic import TanhNet, WavyNet
from parity.reference import reference, signal
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.core.seeding import Randomness
from unistep.core.timesteps import HeavyTailed, RatioCurriculum
from unistep.objectives.distance import PseudoHuber
from unistep.objectives.tcm import TCMConfig

VE = VarianceExploding()
WEIGHTING = {"default": "inverse_gap", "cout_sq": "snr_plus_k", "one": "one"}


@dataclass(frozen=True, kw_only=True)
class GivenTimes(HeavyTailed):
    """A law that answers the stored noise levels."""

    levels: tuple[float, ...]

    def draw(self, num: int, low: float, high: float, generator: Randomness) -> Tensor:
        return torch.tensor(self.levels)


def test_the_heavy_tailed_law(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("truncated")
    monkeypatch.setattr("unistep.core.timesteps.uniform", lambda num, generator: torch.tensor(numbers["share"]))
    assert len(numbers["laws"]) == 3
    for law in numbers["laws"]:
        got = HeavyTailed(mean=law["mean"], std=law["std"], df=law["df"]).draw(15, law["low"], law["high"], None)
        torch.testing.assert_close(got.log(), torch.tensor(law["log_t"]), rtol=1e-4, atol=1e-5)


def test_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curricula of every stage, from targets that are the data to the limit of the ratio at 0.999."""
    numbers = reference("truncated")
    x0, noise = signal(numbers["x0"], numbers["shape"]), signal(numbers["noise"], numbers["shape"])
    monkeypatch.setattr("unistep.objectives.tcm.randn_like", lambda x, generator: noise)
    assert len(numbers["rows"]) == 6
    for row in numbers["rows"]:
        draws = torch.where(torch.tensor(row["boundary"]), 0.0, 0.9)
        monkeypatch.setattr("unistep.objectives.tcm.uniform", lambda num, generator, draws=draws: draws)
        limited = row["q"] ** (row["stage"] + 1) > 1000
        stages = 1 if limited else row["stage"] + 1
        config = TCMConfig(
            times=GivenTimes(levels=tuple(row["t"])),
            curriculum=RatioCurriculum(q=1000.0 if limited else float(row["q"]), stages=stages),
            boundary_weight=row["w_boundary"],
            distance=PseudoHuber(c=row["c"]),
            weighting=WEIGHTING[row["weighting"]],  # type: ignore[arg-type]
        )
        student = ConsistencyModel(WavyNet(), VE, boundary=0.0)
        objective = config.build(student, ConsistencyModel(TanhNet(), VE, boundary=0.0))
        loss = objective(x0, {}, generator=None, progress=1.0).per_example
        # Theirs are two averages, over two examples and over six; ours is one, with weights.
        boundary = torch.tensor(row["boundary"])
        single = loss / torch.where(boundary, row["w_boundary"] / 0.25, 1 / 0.75)
        # Differences of close float32 numbers, divided by a small gap.
        torch.testing.assert_close(single, torch.tensor(row["loss"]), rtol=3e-3, atol=1e-5)
        assert float(loss.mean()) == pytest.approx(row["total"], rel=1e-3)
