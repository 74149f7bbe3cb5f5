"""Inductive moment matching: a few-step model from data alone, by comparing groups of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from unistep.core.condition import Condition, drop
from unistep.core.flowmap import Denoiser, FlowMap, Map
from unistep.core.path import LinearFlow, Path, TrigFlow
from unistep.core.seeding import Randomness, randn_like, uniform
from unistep.objectives.base import Loss, Objective, ObjectiveConfig, expects, with_same_dropout

TRAJECTORIES: dict[str, Path] = {"linear": LinearFlow(), "cosine": TrigFlow(sigma_data=1.0)}
r"""The flow trajectories of the paper, with noise in units of :math:`\sigma_d`; cosine times are angles."""


@dataclass(frozen=True, kw_only=True)
class IMMConfig(ObjectiveConfig):
    """Train a few-step model from data by moment matching, as on CIFAR-10."""

    trains = FlowMap
    two_times = True
    starts_from_teacher = False
    papers = ("zhou2025moment",)

    particles: int = 4
    """:math:`M`, the examples of a group; a batch and every process's share of it must be a multiple of it."""
    trajectory: Literal["linear", "cosine"] = "linear"
    """The trajectory on which times are drawn uniformly and weighted; the student may be on another path."""
    second_time: Literal["uniform", "boundary"] = "uniform"
    """``boundary`` trains jumps to the data only: a model for one step, and multistep sampling with ``gamma`` 1."""
    k: float = 15.0
    r"""The gap of the noise to signal ratios of ``t`` and ``r`` is :math:`2^{-k}` of their range."""
    kernel: Literal["laplace", "energy"] = "laplace"
    """``energy`` compares means only; with one particle it is a consistency model's squared distance."""
    floor: float = 1e-8
    r""":math:`\epsilon`, the distance below which the Laplace kernel has no gradient."""
    a: float = 1.0
    r"""Exponent of :math:`\alpha_t` in the weight, 1 or 2."""
    b: float = 5.0
    """Shift of the sigmoid in the weight; 5 for CIFAR-10, 4 for ImageNet."""
    label_dropout: float = 0.0
    """Share of examples trained without their condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.particles < 1:
            raise ValueError(f"particles must be at least 1, got {self.particles}; the paper has 4")
        if not 0 < self.k <= 20:
            raise ValueError(f"k must be above 0 and at most 20, got {self.k}; the paper has 12 and 15")
        if not (math.isfinite(self.b) and 0 <= self.a < math.inf):
            raise ValueError(f"a must be 0 or more and b finite, got {self.a} and {self.b}; the paper has 1 and 5")
        if self.floor <= 0:
            raise ValueError(f"floor must be positive, got {self.floor}; the paper has 1e-8")

    @property
    def gamma(self) -> float | None:
        """Share of noise that samples of several steps must draw afresh between jumps; ``None`` for any."""
        return 1.0 if self.second_time == "boundary" else None

    def build(self, student: Map, teacher: Denoiser | None) -> MomentMatching:
        """The objective; it uses no teacher."""
        del teacher
        student = expects(student, FlowMap)
        return MomentMatching(student, self)


class MomentMatching(Objective):
    r"""Equal distributions at ``s``, whether reached from ``t`` or from a time ``r`` between.

    Groups of :math:`M` consecutive examples share :math:`(s, r, t)`. With :math:`y = f_\theta(x_t, t, s)` and
    :math:`\hat y = \mathrm{sg} f_\theta(x_r, r, s)`, where :math:`x_r` has the data and the noise of :math:`x_t`
    (which is what the DDIM interpolant of the three gives),

    .. math:: L = E\Big[w(s, t)\,\frac1{M^2} \sum_{j,k} k(y_j, y_k) + k(\hat y_j, \hat y_k) - 2 k(y_j, \hat y_k)\Big],
              \qquad k(x, y) = e^{-\max(\lVert x-y\rVert, \epsilon) / (|c_\mathrm{out}(s, t)| D)} .

    Here :math:`\eta_r = \max(\eta_s, \eta_t - (\eta_{\max}-\eta_{\min}) 2^{-k})` for the noise to signal ratios, and

    .. math:: w(s, t) = \tfrac12\, \mathrm{sigmoid}(b - \lambda_t) \left(-\frac{\mathrm d\lambda_t}{\mathrm dt}\right)
              \frac{\alpha_t^a}{\alpha_t^2 + \sigma_t^2}, \qquad \lambda_t = 2\ln(\alpha_t/\sigma_t) .

    The distribution and the weight of the times are those of the paper's trajectories, whose noise has the data's
    standard deviation, so they mean the same on any path of the student; :math:`c_\mathrm{out}` is the student's own.
    Each example of a group gets the group's loss.

    Args:
        student: The flow map.
        config: Its options.

    Raises:
        ValueError: If the student's path has no largest noise to signal ratio.

    References:
        Zhou et al. 2025, arXiv 2503.07565, equations 12, 13 and 67, algorithm 3, appendices C.6 to C.9 and table 5.
    """

    student: FlowMap

    def __init__(self, student: FlowMap, config: IMMConfig) -> None:
        super().__init__(student)
        self.config = config
        path = student.path
        ends = torch.tensor([student.boundary, path.t_min, path.t_max], dtype=torch.float64)
        self.ratios = tuple((path.ratio(ends) / student.sigma_data).tolist())
        if not self.ratios[-1] < float("inf"):
            raise ValueError(f"moment matching steps down from a largest noise level; give {path} a finite sigma_max")

    def draw_ratios(self, num: int, generator: Randomness) -> Float[Tensor, "3 num"]:
        r"""Noise to signal ratios of ``t``, ``r`` and ``s``, in units of :math:`\sigma_d`, shared within groups."""
        config, law = self.config, TRAJECTORIES[self.config.trajectory]
        boundary, low, high = (law.time_at(torch.tensor(ratio)) for ratio in self.ratios)
        # One draw for each example, of which a group uses the first: a share of a batch then draws what the whole does.
        first, second = (self.shared(uniform(num, generator).cpu()) for _ in range(2))
        t = low + (high - low) * first
        s = boundary + (t - boundary) * (second if config.second_time == "uniform" else 0.0)
        eta_t, eta_s = law.ratio(t), law.ratio(s)
        gap = (self.ratios[2] - self.ratios[1]) * 2.0**-config.k
        return torch.stack([eta_t, (eta_t - gap).maximum(eta_s), eta_s])

    def shared(self, values: Float[Tensor, " num"]) -> Float[Tensor, " num"]:
        """The first value of each group, for all of the group."""
        return repeat(values[:: self.config.particles], "g -> (g m)", m=self.config.particles)

    def weight(self, eta_t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        r"""The weight :math:`w(s, t)`, given the ratio of ``t`` in units of :math:`\sigma_d`."""
        law = TRAJECTORIES[self.config.trajectory]
        t = law.time_at(eta_t)
        alpha, sigma = law.alpha(t), law.sigma(t)
        slope = 2 * (law.d_sigma(t) / sigma - law.d_alpha(t) / alpha)
        keep = alpha**self.config.a / (alpha.square() + sigma.square())
        return 0.5 * (self.config.b - law.log_snr(t)).sigmoid() * slope * keep

    def output_scale(self, t: Float[Tensor, " b"], s: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        r"""The derivative of the student's output by its network's, :math:`|c_\mathrm{out}(s, t)|`.

        .. math:: |c_\mathrm{out}| = (t - s)\,\sigma_d\, \frac{|\dot\alpha_t\sigma_t - \dot\sigma_t\alpha_t|}
                  {\sqrt{\sigma_t^2 + \alpha_t^2\sigma_d^2}}
        """
        path, sigma_data = self.student.path, self.student.sigma_data
        alpha, sigma = path.alpha(t), path.sigma(t)
        turn = (path.d_alpha(t) * sigma - path.d_sigma(t) * alpha).abs()
        return (t - s).abs() * sigma_data * turn / (sigma.square() + (alpha * sigma_data).square()).sqrt()

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`.

        Raises:
            ValueError: If the batch is not a multiple of the particles of a group.
        """
        del progress
        config, path = self.config, self.student.path
        check_groups(len(x0), config.particles, "particles")
        ratios = self.draw_ratios(len(x0), generator).to(x0)
        noise = randn_like(x0, generator)
        condition = drop(condition, config.label_dropout, generator)
        t, r, s = path.time_at(ratios * self.student.sigma_data)
        if config.second_time == "boundary":
            s = torch.full_like(s, self.student.boundary)
        y, y_hat = with_same_dropout(
            lambda: self.student(path.perturb(x0, noise, t), t, s, condition),
            lambda: self.student(path.perturb(x0, noise, r), r, s, condition),
            x0.device,
        )
        scale = self.output_scale(t, s)[:: config.particles]
        discrepancy = self.discrepancy(y, y_hat, scale)
        loss = repeat(discrepancy, "g -> (g m)", m=config.particles) * self.weight(ratios[0])
        return Loss(loss, {"imm/discrepancy": discrepancy.detach().mean()}, ratios[0] * self.student.sigma_data)

    def discrepancy(
        self, y: Float[Tensor, "b *shape"], y_hat: Float[Tensor, "b *shape"], scale: Float[Tensor, " g"]
    ) -> Float[Tensor, " g"]:
        """The squared maximum mean discrepancy of the two halves of each group, as a V-statistic."""
        # Autocast would multiply in bfloat16 what is here a difference of close numbers.
        with torch.autocast(y.device.type, enabled=False):
            a, b = (rearrange(v.flatten(1), "(g m) d -> g m d", m=self.config.particles) for v in (y, y_hat))
            width = (scale * a.shape[-1])[:, None, None].clamp(min=1e-6)
            return (
                self.kernel(a, a, width) + self.kernel(b, b, width) - 2 * self.kernel(a, b, width)
            ).mean(dim=(1, 2))  # fmt: skip

    def kernel(
        self, x: Float[Tensor, "g m d"], y: Float[Tensor, "g m d"], width: Float[Tensor, "g 1 1"]
    ) -> Float[Tensor, "g m m"]:
        """The kernel of each pair, less the 1 that cancels in the discrepancy and would cost digits."""
        difference = x[:, :, None] - y[:, None]
        if self.config.kernel == "energy":
            return -difference.square().mean(dim=-1)
        # The clamp comes before the root, whose slope at zero is infinite.
        norm = difference.square().sum(dim=-1).clamp(min=self.config.floor**2).sqrt()
        return torch.expm1(-norm / width)


def check_groups(num: int, size: int, name: str) -> None:
    """Refuse a batch that is not a whole number of groups.

    Raises:
        ValueError: If ``size`` does not divide ``num``.
    """
    if num % size:
        raise ValueError(
            f"{name} {size} does not divide the {num} examples that a process takes at once; use a --batch-size of "
            f"which each process and each part has a multiple of {size}, or another --objective.{name}"
        )
