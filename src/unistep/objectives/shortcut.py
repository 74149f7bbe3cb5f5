"""Shortcut models: the target of every jump is two jumps of half its length, that of the smallest is flow matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unistep.core.condition import GUIDANCE, Condition, concat, drop, labels, null_condition, select, where
from unistep.core.flowmap import Denoiser, FlowMap, Map
from unistep.core.path import Path, VarianceExploding, expand_to
from unistep.core.seeding import Randomness, randint, randn_like, uniform
from unistep.objectives.base import Loss, Objective, ema_update, expects, frozen_copy
from unistep.objectives.guidance import GuidanceRangeConfig, weights


@dataclass(frozen=True, kw_only=True)
class ShortcutConfig(GuidanceRangeConfig):
    """Train jumps of every length from data alone."""

    trains = FlowMap
    two_times = True
    starts_from_teacher = False
    papers = ("frans2024shortcut",)

    sections: int = 128
    """Number of smallest jumps from noise to data, a power of two."""
    share: float = 0.25
    """Share of examples that learn a jump from two halves; the others learn the velocity."""
    target_ema: float = 0.999
    """Decay of the copy that makes the half jumps; 0 makes them the student's, without gradient."""
    starts: Literal["grid", "uniform"] = "grid"
    """Where jumps start: at multiples of their own length, as the authors sample, or anywhere."""
    guidance: float = 1.0
    """Guidance weight of the velocity that is the target of the smallest jumps."""
    label_dropout: float = 0.0
    """Share of the examples of the velocity that lose their condition; guidance needs some."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sections < 2 or self.sections & (self.sections - 1):
            raise ValueError(f"sections must be a power of two from 2 on, got {self.sections}")
        if not 0 <= self.share <= 1 or not 0 <= self.label_dropout < 1 or not 0 <= self.target_ema < 1:
            raise ValueError(
                "share must be in [0, 1], label_dropout and target_ema in [0, 1), "
                f"got {self.share}, {self.label_dropout} and {self.target_ema}"
            )
        if (self.guidance != 1 or self.guidance_range is not None) and self.label_dropout == 0:
            raise ValueError("guidance asks the network without its condition; train that with label_dropout above 0")

    @property
    def usual_weight(self) -> float:
        """The weight of the smallest jumps."""
        return self.guidance

    @property
    def trained_steps(self) -> tuple[int, ...]:
        """Those of jumps of equal length: the powers of two up to the number of sections."""
        return tuple(2**k for k in range(self.sections.bit_length()))

    def best_times(self, path: Path) -> dict[int, tuple[float, ...]]:
        """Times of jumps of equal length; others have a length that none is trained with."""
        return {n: tuple(path.t_max * (1 - k / n) for k in range(n)) for n in self.trained_steps}

    def build(self, student: Map, teacher: Denoiser | None) -> Shortcut:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, FlowMap)
        return Shortcut(student, self)


class Shortcut(Objective):
    r"""Self-consistency of a jump and its two halves, and flow matching where the length is zero.

    With :math:`x' = x_t - d\, u_{\theta^-}(x_t, t, t - d)`, the jump of length :math:`2d` has the target

    .. math:: u_\theta(x_t, t, t - 2d) \to \tfrac12\left[
              u_{\theta^-}(x_t, t, t - d) + u_{\theta^-}(x', t - d, t - 2d)\right]

    where :math:`2d` is the length from the path's ``t_max`` to the boundary, or a half of it, a quarter and so on; the
    smallest :math:`d` uses the velocity at zero length. The loss is the mean square over a signal's elements.

    Args:
        student: The flow map.
        config: Its options.

    Raises:
        ValueError: On the variance-exploding path, whose time is no measure of length.

    References:
        Frans et al. 2024, arXiv 2410.12557, section 3 and algorithm 1.
    """

    student: FlowMap

    def __init__(self, student: FlowMap, config: ShortcutConfig) -> None:
        if isinstance(student.path, VarianceExploding):
            raise ValueError(
                "shortcut models take steps of equal length in time, which the variance-exploding path cannot serve "
                f"(one of {config.sections} steps would be longer than the data is wide); use LinearFlow or TrigFlow"
            )
        super().__init__(student)
        self.config = config
        self.target = frozen_copy(student).eval() if config.target_ema > 0 else None

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the student; the averaged copy stays in evaluation mode."""
        super().train(mode)
        if self.target is not None:
            self.target.eval()
        return self

    def half_velocity(
        self, x: Tensor, t: Tensor, s: Tensor, smallest: Bool[Tensor, " b"], condition: Condition
    ) -> Tensor:
        """Average velocity of a half jump, guided if it is the smallest one."""
        model = self.student if self.target is None else self.target
        model = expects(model, FlowMap)
        s = torch.where(smallest, t, s)
        if not labels(condition) or (self.config.guidance == 1 and GUIDANCE not in condition):
            return model.velocity(x, t, s, condition)
        weight = weights(condition, self.config.guidance, x)
        both = concat([condition, null_condition(condition)])
        conditional, unconditional = model.velocity(
            torch.cat([x, x]), torch.cat([t, t]), torch.cat([s, s]), both
        ).chunk(2)
        return torch.where(expand_to(smallest, x), unconditional + weight * (conditional - unconditional), conditional)

    @torch.no_grad()
    def bootstrap(self, x: Tensor, t: Tensor, d: Tensor, smallest: Bool[Tensor, " b"], condition: Condition) -> Tensor:
        """Mean of the velocities of two jumps of length ``d`` (shape ``[b]``) from ``x`` at ``t``, shape of ``x``."""
        middle, end = t - d, (t - 2 * d).clamp(min=self.student.boundary)
        first = self.half_velocity(x, t, middle, smallest, condition)
        ahead = x - expand_to(d, x) * first
        return (first + self.half_velocity(ahead, middle, end, smallest, condition)) / 2

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`."""
        del progress
        config, path, num = self.config, self.student.path, len(x0)
        # Which examples learn a jump is drawn for each, so that the shares of several processes add up to one batch.
        jumps = uniform(num, generator).to(x0.device) < config.share
        halvings = randint(config.sections.bit_length() - 1, num, generator).to(x0.device)
        place = uniform(num, generator).to(x0)
        noise = randn_like(x0, generator)
        condition = config.sample_guidance(condition, x0, generator)
        condition = where(jumps, condition, drop(condition, config.label_dropout, generator))

        way = path.t_max - self.student.boundary
        length = torch.where(jumps, 0.5**halvings, 0).to(x0)
        if config.starts == "grid":
            cells = torch.where(jumps, 2**halvings, config.sections)
            start = ((place * cells).floor() + 1) / cells
        else:
            start = 1 - place * (1 - length)
        t = self.student.boundary + way * start
        s = torch.where(jumps, (t - way * length).clamp(min=self.student.boundary), t)

        x_t = path.perturb(x0, noise, t)
        wanted = path.velocity(x0, noise, t)
        # At least one example takes the jump, even if unused: processes that shard the network make the same calls.
        chosen = jumps.nonzero()[:, 0] if bool(jumps.any()) else torch.zeros(1, dtype=torch.long, device=x0.device)
        mean = self.bootstrap(
            x_t[chosen],
            t[chosen],
            way * length[chosen] / 2,
            (halvings == config.sections.bit_length() - 2)[chosen],
            select(condition, chosen),
        )
        # Weights that autocast has cast without gradient must not serve the student from its cache.
        torch.clear_autocast_cache()
        wanted = torch.where(expand_to(jumps, x0), wanted.index_copy(0, chosen, mean), wanted)
        loss = (self.student.velocity(x_t, t, s, condition) - wanted).square().flatten(1).mean(dim=1)
        detached = loss.detach()
        logs = {
            "shortcut/velocity": detached[~jumps].sum() / (~jumps).sum().clamp(min=1),
            "shortcut/jump": detached[jumps].sum() / jumps.sum().clamp(min=1),
        }
        return Loss(loss, logs, path.ratio(t))

    def after_step(self, progress: float) -> None:
        """Update the averaged copy towards the student."""
        del progress
        if self.target is not None:
            ema_update(self.target, self.student, self.config.target_ema)
