"""A teacher's answers that serve several steps: which draws return when, and that the loss stays the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analytic import GaussianDenoiser
from unistep.core.flowmap import ConsistencyModel
from unistep.core.path import VarianceExploding
from unistep.core.seeding import ShardGenerator
from unistep.objectives.ect import EasyConsistencyTuning, ECTConfig
from unistep.objectives.reuse import WINDOW, KeptAnswers, draw_of


def share(draw: int, *, again: bool = False, start: int = 0, num: int = 8) -> ShardGenerator:
    return ShardGenerator(torch.Generator().manual_seed(draw), start, start + num, start + num, draw, again)


@pytest.mark.parametrize("times", [1, 2, 4])
def test_each_window_of_draws_is_gone_through_so_many_times(times: int) -> None:
    draws = [draw_of(step, times) for step in range(3 * WINDOW * times)]
    for window in range(3):
        wanted = list(range(window * WINDOW, (window + 1) * WINDOW)) * times
        assert draws[window * WINDOW * times : (window + 1) * WINDOW * times] == wanted
    assert all(draw <= step for step, draw in enumerate(draws))


def test_answers_are_kept_for_their_draw_and_share_within_a_window() -> None:
    kept, asked = KeptAnswers(), []

    def answer(generator: ShardGenerator | None) -> Tensor:
        def compute() -> Tensor:
            asked.append(generator)
            return torch.tensor(float(len(asked)))

        return kept(generator, compute)

    assert [float(answer(share(d))) for d in (0, 1)] == [1, 2]
    assert [float(answer(share(d, again=True))) for d in (0, 1)] == [1, 2]
    assert float(answer(share(0, again=True, start=8))) == 3  # another share
    assert float(answer(share(0))) == 4  # made first once more, as when steps are timed
    assert float(answer(share(5, again=True))) == 5  # of before a run was interrupted
    answer(share(WINDOW))
    assert float(answer(share(0, again=True))) == 7  # a window that is over
    assert float(answer(None)) == 8
    assert float(answer(None)) == 9


class Counted(GaussianDenoiser):
    """A denoiser that counts its calls."""

    calls = 0

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        self.calls += 1
        return super().forward(x, t, s, condition)


class Line(nn.Module):
    """A network with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor, t: Tensor, s: Tensor | None = None, condition: object = None) -> Tensor:
        del t, s, condition
        return self.weight * x


def objective(times: int) -> tuple[EasyConsistencyTuning, Counted]:
    student, teacher = ConsistencyModel(Line(), VarianceExploding()), Counted(VarianceExploding())
    config = ECTConfig(target="euler", teacher_reuse=times)
    return EasyConsistencyTuning(student, teacher, config), teacher


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.9])
def test_the_loss_is_that_of_asking_the_teacher_again(progress: float) -> None:
    """Also in a later stage, where other targets are taken from the same answers."""
    x0 = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    (plain, _), (keeping, teacher) = objective(1), objective(2)
    keeping(x0, {}, generator=share(4), progress=0.0)
    assert teacher.calls == 1
    found = keeping(x0, {}, generator=share(4, again=True), progress=progress)
    wanted = plain(x0, {}, generator=share(4), progress=progress)
    assert teacher.calls == 1
    # The same operations on the same items.
    torch.testing.assert_close(found.per_example, wanted.per_example, rtol=1e-6, atol=0)
    assert not torch.equal(found.per_example, plain(x0, {}, generator=share(5), progress=progress).per_example)


def test_what_cannot_be_kept_is_refused() -> None:
    for config in ({"target": "heun"}, {"target": "data"}):
        with pytest.raises(ValueError, match="teacher_reuse 2 keeps answers"):
            ECTConfig(teacher_reuse=2, **config)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="teacher_reuse must be at least 1, got 0"):
        ECTConfig(teacher_reuse=0)
    assert ECTConfig(target="euler", teacher_reuse=4).without_teacher().teacher_reuse == 1
