"""Networks are called for the items that need it: the loss is the same, and fewer examples go through."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unistep import registry
from unistep.core.condition import Label, Signal
from unistep.core.flowmap import Denoiser, Map
from unistep.core.path import VarianceExploding
from unistep.core.timesteps import RatioCurriculum
from unistep.nets.unet import UNetConfig
from unistep.objectives.base import Loss, Objective
from unistep.objectives.partial import call_where

BATCH = 32
PATH = VarianceExploding()
SHAPE: dict[str, Any] = {
    "widths": (8,),
    "blocks": (1,),
    "middle_blocks": 1,
    "embedding_dim": 8,
    "num_classes": 2,
    "signals": {"source": 1},
}
FIRST = RatioCurriculum(q=2.0, stages=4)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ect": ("ect", {"curriculum": FIRST}),
    "ect, a level for each column": ("ect", {"curriculum": FIRST, "level_axes": (2,)}),
    "ect, guided teacher": ("ect", {"curriculum": FIRST, "target": "heun", "guidance": 2.0}),
    "pcm": ("pcm", {"curriculum": FIRST, "target": "euler"}),
    "tcm": ("tcm", {"curriculum": FIRST, "transition": 1.0, "boundary_probability": 0.1}),
}


def made(case: str, dropout: float = 0.0) -> tuple[Objective, list[int]]:
    """The objective, and the sizes of the batches that its networks are given without gradient."""
    name, options = CASES[case]
    config = registry.lookup("objective", name)(**options)
    torch.manual_seed(0)

    def network(rate: float, second_time: bool) -> nn.Module:
        net = UNetConfig(dropout=rate, second_time=second_time, **SHAPE).build()
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p), alpha=0.1)
        return net.double()

    boundary = {"boundary": 0.0} if name in ("ect", "pcm", "tcm") else {}
    student = config.trains(network(dropout, config.two_times), PATH, 0.5, **boundary)
    kind = config.teacher_kind
    teacher = kind(network(0.0, False), PATH, 0.5, **({} if kind is Denoiser else boundary))
    objective = config.build(student, teacher)
    sizes: list[int] = []

    def seen(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not torch.is_grad_enabled():
            sizes.append(len(inputs[0]))

    for part in objective.modules():
        if isinstance(part, Map):
            part.net.register_forward_pre_hook(seen)
    return objective.train(), sizes


def loss_of(objective: Objective) -> Loss:
    generator = torch.Generator().manual_seed(3)
    x0 = torch.randn(BATCH, 1, 8, 8, dtype=torch.float64, generator=generator) * 0.5
    source = torch.randn(BATCH, 1, 8, 8, dtype=torch.float64, generator=generator)
    condition = {"label": Label(torch.arange(BATCH) % 2), "source": Signal.clean(source)}
    torch.manual_seed(5)
    return objective(x0, condition, generator=generator, progress=0.0)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_its_gradient_are_those_of_the_whole_batch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for module in ("targets", "pcm", "tcm"):
        monkeypatch.setattr(f"unistep.objectives.{module}.is_compiled", lambda _: len(found) == 0)
    for _ in range(2):
        objective, sizes = made(case)
        loss = loss_of(objective)
        gradient = torch.autograd.grad(loss.per_example.mean(), [p for p in objective.parameters() if p.requires_grad])
        found.append((loss.per_example.detach(), gradient, sum(sizes)))
    (whole, whole_gradient, many), (part, part_gradient, few) = found
    # Items are independent; another size of batch may order the sums of a layer otherwise.
    torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(part_gradient, whole_gradient, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10)
    assert few < many


def test_with_dropout_the_whole_batch_draws_one_mask() -> None:
    objective, sizes = made("ect", dropout=0.3)
    loss_of(objective)
    assert sizes == [BATCH]
    objective, sizes = made("ect")
    loss_of(objective)
    assert sizes[0] < BATCH
    assert sizes[0] % (BATCH // 8) == 0


def test_a_compiled_network_is_called_with_one_size() -> None:
    objective, sizes = made("ect")
    objective.student.net._compiled_call_impl = objective.student.net._call_impl  # type: ignore[assignment]
    loss_of(objective)
    assert sizes == [BATCH]


@pytest.mark.parametrize(("needed", "called"), [(0, 2), (1, 2), (2, 2), (3, 4), (15, 16), (16, 16)])
def test_calls_are_rounded_up_and_never_none(needed: int, called: int) -> None:
    rows = torch.zeros(16, dtype=torch.bool)
    rows[torch.randperm(16, generator=torch.Generator().manual_seed(1))[:needed]] = True
    seen: list[Tensor] = []

    def call(chosen: Tensor) -> Tensor:
        seen.append(chosen)
        return torch.ones(len(chosen), 2)

    values = call_where(rows, call, torch.zeros(16, 2))
    assert len(seen[0]) == called
    assert values[rows].eq(1).all()
    assert int(values[:, 0].sum()) == called
    by_part = torch.zeros(16, 1, 3, dtype=torch.bool)
    by_part[:, :, 1] = rows[:, None]
    assert torch.equal(call_where(by_part, call, torch.zeros(16, 2)), values)
