"""Schedules, scalings, samplers and losses against numbers of the original implementations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from analytic import TanhNet, WavyNet
from parity.reference import GivenIndex, GivenLevels, reference, signal
from unistep.core.flowmap import ConsistencyModel, Denoiser, c_noise
from unistep.core.path import VarianceExploding, expand_to
from unistep.core.sampling import trace_multistep
from unistep.core.solvers import sample_ode
from unistep.core.timesteps import ConstantLevels, RatioCurriculum, SqrtCurriculum, karras_grid
from unistep.objectives.cd import CDConfig, ConsistencyDistillation
from unistep.objectives.ct import ConsistencyTraining, CTConfig
from unistep.objectives.denoising import Denoising, DenoisingConfig
from unistep.objectives.distance import L1, PseudoHuber, SquaredL2
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig

DISTANCES = {"l2": SquaredL2(), "l1": L1()}


def fix_noise(monkeypatch: pytest.MonkeyPatch, module: str, *noises: Tensor) -> None:
    """Let a module draw the stored noise, in order."""
    queue = list(noises)
    monkeypatch.setattr(f"unistep.{module}.randn_like", lambda x, generator: queue.pop(0))


@pytest.mark.parametrize("name", ["openai_schedules", "openai_cifar10_schedules"])
def test_ct_schedules(name: str) -> None:
    rows: list[dict[str, Any]] = reference(name)["rows"]
    assert len(rows) >= 12
    for row in rows:
        curriculum = SqrtCurriculum(start=row["start"], end=row["end"], target_ema=row["start_ema"])
        progress = row["step"] / row["total"]
        levels = curriculum.levels(progress)
        assert levels == row["levels"], row
        # The paper divides by N(k), the code by N(k) - 1; both are the same formula otherwise.
        decay = curriculum.target_decay(progress)
        assert decay == pytest.approx(math.exp(row["start"] * math.log(row["start_ema"]) / levels), rel=1e-9)
        assert math.log(decay) * levels / (levels - 1) == pytest.approx(math.log(row["target_ema"]), rel=1e-6)


def test_karras_grids() -> None:
    for num, grid in reference("openai_scalings")["grids"].items():
        assert karras_grid(int(num), 0.002, 80.0).tolist() == pytest.approx(grid, rel=2e-6)


@pytest.mark.parametrize("kind", ["edm", "consistency"])
def test_scalings(kind: str) -> None:
    """Networks that answer 0 and 1 show c_skip and c_out; one that answers its input shows c_in."""
    numbers = reference("openai_scalings")
    sigma = torch.tensor(numbers["sigma"], dtype=torch.float64)
    x = torch.ones(len(sigma), 1, dtype=torch.float64)

    def answer(what: str) -> Tensor:
        class Net(torch.nn.Module):
            def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
                return {"zero": torch.zeros_like(x), "one": torch.ones_like(x), "input": x}[what]

        model = (Denoiser if kind == "edm" else ConsistencyModel)(Net(), VarianceExploding())
        return model(x, sigma)[:, 0]

    skip = answer("zero")
    c_skip, c_out, c_in = (torch.tensor(values, dtype=torch.float64) for values in numbers[kind])
    torch.testing.assert_close(skip, c_skip, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(answer("one") - skip, c_out, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(answer("input") - skip, c_out * c_in, rtol=1e-7, atol=1e-10)


def test_edm_preconditioning() -> None:
    numbers = reference("edm")
    x, sigma = signal(numbers["x0"], numbers["shape"]), torch.tensor(numbers["probe_sigma"])
    got = Denoiser(WavyNet(), VarianceExploding())(x, sigma)
    torch.testing.assert_close(got, signal(numbers["probe"], numbers["shape"]), rtol=1e-5, atol=1e-6)


def test_edm_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("edm")
    fix_noise(monkeypatch, "objectives.denoising", signal(numbers["noise"], numbers["shape"]))
    config = DenoisingConfig(times=GivenLevels(levels=tuple(numbers["sigma"])), label_dropout=0.0)
    objective = Denoising(Denoiser(WavyNet(), VarianceExploding()), config)
    loss = objective(signal(numbers["x0"], numbers["shape"]), {}, generator=None, progress=0.0)
    torch.testing.assert_close(loss.per_example, torch.tensor(numbers["loss"]), rtol=2e-5, atol=0)


def test_openai_denoising_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("openai_losses")
    fix_noise(monkeypatch, "objectives.denoising", signal(numbers["noise"], numbers["shape"]))
    config = DenoisingConfig(times=GivenLevels(levels=tuple(numbers["denoising"]["sigma"])), label_dropout=0.0)
    objective = Denoising(Denoiser(WavyNet(), VarianceExploding()), config)
    loss = objective(signal(numbers["x0"], numbers["shape"]), {}, generator=None, progress=0.0)
    torch.testing.assert_close(loss.per_example, torch.tensor(numbers["denoising"]["loss"]), rtol=2e-5, atol=0)


def ascending(numbers: dict[str, Any]) -> GivenIndex:
    """The stored pairs, counted from the smallest noise as our grids are."""
    return GivenIndex(indices=tuple(numbers["levels"] - 2 - i for i in numbers["index_from_largest"]))


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_consistency_distillation_loss(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("openai_losses")
    fix_noise(monkeypatch, "objectives.cd", signal(numbers["noise"], numbers["shape"]))
    path = VarianceExploding()
    config = CDConfig(levels=18, solver="heun", law=ascending(numbers), distance=DISTANCES[norm])
    objective = ConsistencyDistillation(ConsistencyModel(WavyNet(), path), Denoiser(TanhNet(), path), config)
    loss = objective(signal(numbers["x0"], numbers["shape"]), {}, generator=None, progress=0.0)
    torch.testing.assert_close(loss.per_example, torch.tensor(numbers["distillation"][norm]), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_consistency_training_loss(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("openai_losses")
    fix_noise(monkeypatch, "objectives.ct", signal(numbers["noise"], numbers["shape"]))
    config = CTConfig(curriculum=ConstantLevels(num=18), law=ascending(numbers), distance=DISTANCES[norm])
    objective = ConsistencyTraining(ConsistencyModel(WavyNet(), VarianceExploding()), config)
    loss = objective(signal(numbers["x0"], numbers["shape"]), {}, generator=None, progress=0.0)
    torch.testing.assert_close(loss.per_example, torch.tensor(numbers["training"][norm]), rtol=1e-3, atol=1e-8)


def test_ect_ratios() -> None:
    numbers = reference("ect_ratios")
    t = torch.tensor(numbers["t"], dtype=torch.float64)
    assert len(numbers["tables"]) == 13
    for table in numbers["tables"]:
        curriculum = RatioCurriculum(q=float(table["q"]), stages=table["stages"])
        got = curriculum.closer(t, table["stage"] / table["stages"])
        torch.testing.assert_close(got, torch.tensor(table["r"], dtype=torch.float64), rtol=1e-7, atol=1e-12)


def test_ect_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("ect_losses")
    x0, noise = signal(numbers["x0"], numbers["shape"]), signal(numbers["noise"], numbers["shape"])
    student = ConsistencyModel(WavyNet(), VarianceExploding(), boundary=0.0)
    for row in numbers["rows"]:
        fix_noise(monkeypatch, "objectives.ect", noise)
        config = ECTConfig(
            times=GivenLevels(levels=tuple(numbers["sigma"])),
            curriculum=RatioCurriculum(q=float(row["q"]), stages=row["stages"]),
            distance=PseudoHuber(c=row["c"]),
            weighting="inverse_gap",
        )
        objective = EasyConsistencyTuning(student, None, config)
        loss = objective(x0, {}, generator=None, progress=row["stage"] / row["stages"])
        # Differences of close float32 numbers, divided by a small gap.
        torch.testing.assert_close(loss.per_example, torch.tensor(row["loss"]), rtol=2e-3, atol=1e-4)


def test_multistep_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = reference("openai_samplers")
    shape = numbers["shape"]
    fix_noise(monkeypatch, "core.sampling", *(signal(values, shape) for values in numbers["again"]))
    grid = karras_grid(numbers["levels"], 0.002, 80.0)[numbers["indices"]]
    student = ConsistencyModel(WavyNet(), VarianceExploding())
    x = list(trace_multistep(student, signal(numbers["noise"], shape), grid))[-1]
    torch.testing.assert_close(x, signal(numbers["multistep"], shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_ode_samplers(solver: str) -> None:
    numbers = reference("openai_samplers")
    x = sample_ode(
        Denoiser(TanhNet(), VarianceExploding()),
        signal(numbers["noise"], numbers["shape"]),
        karras_grid(6, 0.002, 80.0),
        solver=solver,  # type: ignore[arg-type]
    )
    torch.testing.assert_close(x, signal(numbers[solver], numbers["shape"]), rtol=1e-4, atol=1e-4)


def test_networks_are_told_a_quarter_of_the_log_noise() -> None:
    """The original multiplies it by 1000 for its own embedding, the JAX port and EDM do not."""
    sigma = torch.tensor([0.002, 1.0, 80.0])
    torch.testing.assert_close(c_noise(VarianceExploding(), sigma), sigma.log() / 4)
    assert expand_to(sigma, torch.zeros(3, 1, 2)).shape == (3, 1, 1)
