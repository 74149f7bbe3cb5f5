"""Multi-phase consistency against numbers of the code of Phased Consistency Models, on the straight path."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from analytic import TanhNet, WavyNet
from parity.reference import GivenLevels, reference, signal
from unistep.core.flowmap import Denoiser, FlowMap
from unistep.core.path import LinearFlow
from unistep.core.timesteps import RatioCurriculum
from unistep.objectives.pcm import PCMConfig, PhasedConsistency


@dataclass(frozen=True, kw_only=True)
class GivenCloser(RatioCurriculum):
    """A curriculum that answers the stored closer levels."""

    levels: tuple[float, ...]

    def closer(self, t: Tensor, progress: float) -> Tensor:
        return torch.tensor(self.levels)


def ratios(times: list[float]) -> tuple[float, ...]:
    """Noise to signal ratios of times on the straight path."""
    return tuple(t / (1 - t) for t in times)


def test_the_edges_the_jumps_and_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("phased")
    x0, noise = signal(numbers["x0"], numbers["shape"]), signal(numbers["noise"], numbers["shape"])
    monkeypatch.setattr("unistep.objectives.pcm.randn_like", lambda x, generator: noise)
    path = LinearFlow(sigma_max=1e4)
    seen: list[tuple[Tensor, Tensor]] = []

    def metric(x: Tensor, y: Tensor) -> Tensor:
        seen.append((x, y))
        return ((x - y).square() + 1e-6).sqrt().sub(1e-3).flatten(1).mean(dim=1)

    assert len(numbers["rows"]) == 3
    for row in numbers["rows"]:
        config = PCMConfig(
            phases=row["phases"],
            edges=ratios(row["lower_edges"])[:0:-1],
            times=GivenLevels(levels=ratios(row["t"])),
            curriculum=GivenCloser(levels=ratios(row["r"])),
            weighting="one",
            target="euler",
        )
        student = FlowMap(TanhNet(), path, boundary=row["lower_edges"][0])
        objective = PhasedConsistency(student, Denoiser(WavyNet(), path), config, metric)
        levels = torch.tensor(ratios(row["t"]))
        torch.testing.assert_close(path.time_at(objective.lower_edge(levels)), torch.tensor(row["s"]))
        loss = objective(x0, {}, generator=None, progress=0.0)
        for got, name in zip(seen[-1], ("pred", "target"), strict=True):
            torch.testing.assert_close(got, signal(row[name], numbers["shape"]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loss.per_example, torch.tensor(row["loss"]), rtol=2e-3, atol=1e-6)
