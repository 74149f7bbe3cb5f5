"""What the objectives share: the branches' random state, frozen teachers, averaged targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analytic import PlanarNet, WavyNet
from unistep.core.flowmap import ConsistencyModel, Denoiser
from unistep.core.path import VarianceExploding
from unistep.objectives.base import ema_update, frozen_copy, with_same_dropout
from unistep.objectives.cd import CDConfig, ConsistencyDistillation

VE = VarianceExploding()
CPU = torch.device("cpu")


def test_both_branches_draw_the_same_dropout_mask() -> None:
    dropout, x = nn.Dropout(0.5), torch.ones(1000)
    for _ in range(3):
        answer, wanted = with_same_dropout(lambda: dropout(x), lambda: dropout(x), CPU)
        assert torch.equal(answer, wanted)
        assert 300 < int((answer == 0).sum()) < 700


def test_the_next_step_draws_another_mask() -> None:
    dropout, x = nn.Dropout(0.5), torch.ones(1000)
    first, _ = with_same_dropout(lambda: dropout(x), lambda: dropout(x), CPU)
    second, _ = with_same_dropout(lambda: dropout(x), lambda: dropout(x), CPU)
    assert not torch.equal(first, second)


def test_the_random_state_afterwards_is_that_of_one_branch() -> None:
    torch.manual_seed(3)
    torch.rand(7)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    with_same_dropout(lambda: torch.rand(7), lambda: torch.rand(7), CPU)
    assert torch.equal(torch.rand(1), wanted)


def test_only_the_student_has_a_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    answer, wanted = with_same_dropout(lambda: 2 * weight, lambda: 3 * weight, CPU)
    assert answer.requires_grad
    assert not wanted.requires_grad
    assert wanted.tolist() == [3, 3]


def test_on_a_gpu_its_own_random_state_is_put_back_between_the_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the generator of the second device, advanced by each draw there."""
    state, device = {"cuda:1": 10}, torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda d: torch.tensor(state[str(d)]))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda v, d: state.update({str(d): int(v)}))

    def draw() -> Tensor:
        state["cuda:1"] += 1
        return torch.tensor(state["cuda:1"])

    answer, wanted = with_same_dropout(draw, draw, device)
    assert answer.item() == wanted.item() == 11
    assert state["cuda:1"] == 11


def test_under_autocast_the_student_keeps_its_gradient() -> None:
    """Autocast caches the weights that it casts; a cached cast from the branch without gradient would be detached."""
    net = nn.Linear(4, 4)
    x = torch.randn(2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer, wanted = with_same_dropout(lambda: net(x), lambda: net(x), CPU)
    assert torch.equal(answer, wanted)
    answer.float().sum().backward()
    assert net.weight.grad is not None
    assert net.weight.grad.any()


def test_a_teacher_is_frozen_and_stays_in_evaluation_mode() -> None:
    student, teacher = ConsistencyModel(PlanarNet(8, 0.5), VE), Denoiser(PlanarNet(8, 0.5), VE)
    objective = ConsistencyDistillation(student, teacher, CDConfig())
    objective.train()
    assert student.training
    assert student.net.body[2].training
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    objective.eval()
    assert not student.training


def test_a_target_copy_is_apart_and_follows() -> None:
    student = ConsistencyModel(PlanarNet(8), VE)
    target = frozen_copy(student)
    before = [p.clone() for p in target.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), before, strict=True))
    ema_update(target, student, 0.75)
    for moved, old in zip(target.parameters(), before, strict=True):
        torch.testing.assert_close(moved, old + 0.25)
    assert not any(p.requires_grad for p in target.parameters())
    ema_update(target, student, 0.0)
    for moved, new in zip(target.parameters(), student.parameters(), strict=True):
        assert torch.equal(moved, new)


def test_a_network_without_weights_can_be_a_target() -> None:
    ema_update(frozen_copy(ConsistencyModel(WavyNet(), VE)), ConsistencyModel(WavyNet(), VE), 0.5)
