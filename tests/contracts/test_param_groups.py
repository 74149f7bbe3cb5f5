"""An objective from elsewhere with a second network: it steps every third step and is clipped by itself."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import unistep
from unistep.core.flowmap import Denoiser
from unistep.core.path import VarianceExploding
from unistep.core.seeding import ShardGenerator, derived_seed, randn_like
from unistep.objectives.base import Loss, Objective, ParamGroup
from unistep.optimizers import AdamConfig, MuonConfig, OptimizerConfig
from unistep.training.checkpoint import TrainingState, read_checkpoint, save_checkpoint
from unistep.training.loop import Progress
from unistep.training.optim import RunOptimizer, build_optimizer, clip_gradients, clip_groups

STEPS, EVERY = 7, 3


class Body(nn.Module):
    """A raw network for points that ignores all but the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None, condition: object) -> Tensor:
        return self.layers(x)


class TwoNetworks(Objective):
    """A denoiser, and a critic that guesses its error with a large loss, to show whose gradient is clipped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Denoiser(Body(), VarianceExploding()))
        self.critic = nn.Linear(2, 1)
        self.options = options

    def forward(self, x0: Tensor, condition: object, *, generator: object, progress: float) -> Loss:
        t = torch.full((len(x0),), 0.5)
        x_t = self.student.path.perturb(x0, randn_like(x0, generator), t)  # type: ignore[arg-type]
        error = (self.student(x_t, t) - x0).square().mean(dim=1)
        guess = self.critic(x_t.detach())[:, 0]
        return Loss(error + 100 * (guess - error.detach()).square())

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup(name="critic", module=self.critic, **self.options)]


def made(config: OptimizerConfig, **options: Any) -> tuple[TwoNetworks, RunOptimizer]:
    torch.manual_seed(0)
    objective = TwoNetworks(**options)
    return objective, build_optimizer(config, objective.student.net, objective)


def take(objective: TwoNetworks, optimizer: RunOptimizer, steps: range) -> list[dict[str, Tensor]]:
    """Train as the trainer does; the weights after each step."""
    seen = []
    data = torch.randn(8, 2, generator=torch.Generator().manual_seed(3))
    for step in steps:
        generator = ShardGenerator(torch.Generator().manual_seed(derived_seed(0, "noise", step)), 0, 8, 8)
        objective.zero_grad()
        objective(data, {}, generator=generator, progress=step / STEPS).per_example.mean().backward()
        for parameters, largest in clip_groups(objective, 1.0).values():
            clip_gradients(parameters, largest)
        optimizer.step(step)
        seen.append({name: p.detach().clone() for name, p in objective.named_parameters()})
    return seen


OPTIMIZERS = {
    "configured": AdamConfig(lr=1e-2, betas=(0.5, 0.9)),
    "the run's": None,
    "made": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
}


@pytest.mark.parametrize("own", OPTIMIZERS)
@pytest.mark.parametrize("config", [AdamConfig(), MuonConfig()], ids=["adam", "muon"])
def test_the_second_network_steps_every_third_step(config: OptimizerConfig, own: str) -> None:
    objective, optimizer = made(config, optimizer=OPTIMIZERS[own], every=EVERY)
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    for step, after in enumerate(take(objective, optimizer, range(STEPS))):
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert ("critic.weight" in moved) == (step % EVERY == 0)
        assert "student.net.layers.2.weight" in moved
        before = after


def test_each_group_is_clipped_by_itself() -> None:
    objective, _ = made(AdamConfig(), clip=0.25)
    groups = clip_groups(objective, 1.0)
    assert {name: largest for name, (_, largest) in groups.items()} == {"rest": 1.0, "critic": 0.25}
    assert {id(p) for p in groups["critic"][0]} == {id(p) for p in objective.critic.parameters()}
    for p in objective.parameters():
        p.grad = torch.full_like(p, 0.01)
    for p in objective.critic.parameters():
        p.grad = torch.full_like(p, 100.0)
    for parameters, largest in groups.values():
        clip_gradients(parameters, largest)
    # The student's gradient is short and stays, whatever the critic's is.
    assert all(torch.all(p.grad == 0.01) for p in objective.student.parameters())
    # A norm over three numbers and one factor: a few roundings.
    norm = torch.cat([p.grad.flatten() for p in objective.critic.parameters() if p.grad is not None]).norm()
    assert abs(norm.item() - 0.25) < 0.25 * (8 * torch.finfo(torch.float32).eps + 1e-6 / 100)


def test_rates_are_scaled() -> None:
    _, optimizer = made(AdamConfig(lr=1e-3), lr_scale=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-4])


@pytest.mark.parametrize("own", OPTIMIZERS)
@pytest.mark.parametrize("config", [AdamConfig(), MuonConfig()], ids=["adam", "muon"])
def test_a_resumed_run_is_bit_identical(config: OptimizerConfig, own: str, tmp_path: Path) -> None:
    options = {"optimizer": OPTIMIZERS[own], "every": EVERY}
    whole = take(*made(config, **options), range(STEPS))[-1]
    first, optimizer = made(config, **options)
    take(first, optimizer, range(4))
    save_checkpoint(TrainingState(first, optimizer, []).gather(), tmp_path, {"step": 4})
    second, optimizer = made(config, **options)
    nn.init.ones_(second.critic.weight)
    TrainingState(second, optimizer, []).restore(read_checkpoint(tmp_path / "00000004"))
    resumed = take(second, optimizer, range(4, STEPS))[-1]
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("stop", [3, 5])  # right before a step of the critic, and between two of them
def test_a_training_that_was_stopped_keeps_the_cadence(stop: int, tmp_path: Path) -> None:
    """Through the trainer: the turns of the critic are counted from the beginning of the run, not of the session."""

    def trained(out: str, until: int, *, resume: bool = False) -> list[dict[str, Tensor]]:
        """The weights after each step, up to ``until``."""
        torch.manual_seed(7 if resume else 0)  # what is resumed must not depend on the weights that it began with
        objective = TwoNetworks(optimizer=AdamConfig(lr=1e-2, betas=(0.5, 0.9)), every=EVERY)
        steps: list[int] = []
        seen: list[dict[str, Tensor]] = []

        def watch(progress: Progress) -> None:
            steps.append(progress.step)
            seen.append({name: p.detach().clone() for name, p in objective.named_parameters()})

        x0 = torch.rand(24, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
        trainer = unistep.Trainer(
            objective,
            x0,
            steps=STEPS,
            batch_size=8,
            optimizer=MuonConfig(),
            out=tmp_path / out,
            callback=watch,
            cancel=lambda: steps[-1:] == [until],
            device="cpu",
            precision="fp32",
            console=Console(quiet=True),
        )
        assert trainer.run(resume=resume) == (until == STEPS)
        return seen

    whole = trained("whole", STEPS)
    pieces = [*trained("pieces", stop), *trained("pieces", STEPS, resume=True)]
    assert len(pieces) == len(whole) == STEPS
    for ours, theirs in zip(pieces, whole, strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    moved = [not torch.equal(a["critic.weight"], b["critic.weight"]) for a, b in itertools.pairwise(whole)]
    assert moved == [step % EVERY == 0 for step in range(1, STEPS)]


def test_the_student_itself_can_be_a_group() -> None:
    class Rarely(TwoNetworks):
        def param_groups(self) -> list[ParamGroup]:
            return [ParamGroup(name="student", module=self.student, every=2)]

    torch.manual_seed(0)
    objective = Rarely()
    optimizer = build_optimizer(MuonConfig(), objective.student.net, objective)
    # One hidden matrix for Muon in the student's group; the critic, with a single matrix, is all Adam's.
    kinds = {group.name: [type(inner).__name__ for inner in group.optimizers] for group in optimizer.groups}
    assert kinds == {"rest": ["AdamW"], "student": ["Muon", "AdamW"]}
    seen = take(objective, optimizer, range(2))
    assert torch.equal(seen[0]["student.net.layers.2.weight"], seen[1]["student.net.layers.2.weight"])
    assert not torch.equal(seen[0]["critic.weight"], seen[1]["critic.weight"])


def test_impossible_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        made(AdamConfig(), every=0)
    with pytest.raises(ValueError, match="lr_scale and clip must be positive, got -1 and None"):
        made(AdamConfig(), lr_scale=-1)

    class Twice(TwoNetworks):
        def param_groups(self) -> list[ParamGroup]:
            (group,) = super().param_groups()
            return [group, replace(group, name="again")]

    objective = Twice()
    with pytest.raises(ValueError, match="critic, again share a parameter"):
        build_optimizer(AdamConfig(), objective.student.net, objective)
