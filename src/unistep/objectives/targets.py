"""The target point, of the same data and noise or along a teacher's ODE, and the prediction there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition, select
from unistep.core.flowmap import AnyDenoiser, ConsistencyModel
from unistep.core.path import Path, expand_to
from unistep.core.solvers import STEPS, euler_point
from unistep.objectives.partial import call_where, is_compiled

TargetSource = Literal["data", "euler", "heun"]
"""``data`` is the point of the same data and noise, ``euler`` and ``heun`` a step of a teacher's ODE."""


def validate_teacher(how: TargetSource, teacher: AnyDenoiser | None, path: Path) -> AnyDenoiser | None:
    """The teacher that :func:`target_point` needs; ``None`` for ``data``.

    Args:
        how: Where the target point comes from.
        teacher: The denoiser, if there is one.
        path: The student's path.

    Raises:
        ValueError: If a teacher's step is configured and there is no teacher, or it is on another path.
    """
    if how == "data":
        return None
    if teacher is None:
        raise ValueError(f"a target of {how!r} needs a teacher; give one, or use target 'data'")
    if teacher.path != path:
        raise ValueError(f"the teacher is on the path {teacher.path}, the student on {path}; use one path")
    return teacher


def target_point(
    how: TargetSource,
    teacher: AnyDenoiser | None,
    path: Path,
    x_t: Float[Tensor, "b *shape"],
    x0: Float[Tensor, "b *shape"],
    noise: Float[Tensor, "b *shape"],
    t: Float[Tensor, "b *levels"],
    r: Float[Tensor, "b *levels"],
    condition: Condition,
    known: Float[Tensor, "b *shape"] | None = None,
) -> Float[Tensor, "b *shape"]:
    r"""The point at time ``r`` whose prediction is the target for :math:`x_t`, without gradient.

    .. math:: x_r = \alpha_r x_0 + \sigma_r z \quad\text{or}\quad x_r = \mathrm{Step}_\phi(x_t, t \to r)

    Args:
        how: Which of the two.
        teacher: What :func:`validate_teacher` returned.
        path: The student's path.
        x_t: The noisy point.
        x0: Its data.
        noise: Its noise.
        t: Its times.
        r: The target times; for 0 the point is the data.
        condition: Condition of the teacher.
        known: The teacher's estimates at :math:`x_t`, where they are known; for ``euler`` only.

    References:
        Geng et al. 2024, arXiv 2406.14548, section 3; the teacher's step is that of Song et al. 2023, arXiv 2303.01469,
        equation 6.
    """
    if how == "data":
        return path.perturb(x0, noise, r)
    assert teacher is not None
    # For r = 0 the ODE step would be one denoiser call; the data is equally unbiased and costs none.
    positive = r > 0
    r_safe = torch.where(positive, r, path.time_at(torch.full_like(r, 1e-4)))

    def stepped(rows: Tensor) -> Tensor:
        return STEPS[how](teacher, x_t[rows], t[rows], r_safe[rows], select(condition, rows))

    with torch.no_grad():
        if known is not None:
            return torch.where(expand_to(positive, x0), euler_point(path, x_t, known, t, r_safe), x0)
        whole = is_compiled(teacher)
        found = stepped(torch.arange(len(x0), device=x0.device)) if whole else call_where(positive, stepped, x0)
    return torch.where(expand_to(positive, x0), found, x0)


def target_prediction(
    student: ConsistencyModel, x_r: Float[Tensor, "b *shape"], r: Float[Tensor, "b *levels"], condition: Condition
) -> Callable[[], Float[Tensor, "b *shape"]] | None:
    r"""The prediction at the target point, without a call for items at the boundary, where :math:`f(x, \epsilon) = x`.

    Args:
        student: The consistency model.
        x_r: The target points.
        r: Their times.
        condition: Their condition.

    Returns:
        What gives it; ``None`` for a compiled network, which is called with one size of batch only.
    """
    if is_compiled(student):
        return None
    beyond = r != student.boundary

    def call(rows: Tensor) -> Tensor:
        return student(x_r[rows], r[rows], None, select(condition, rows))

    return lambda: call_where(beyond, call, x_r)
