"""Drifting models: a one-step generator whose samples drift towards the data while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unistep.core.condition import Condition, differing
from unistep.core.flowmap import ConsistencyModel, Denoiser, Map
from unistep.core.path import expand_to
from unistep.core.seeding import Randomness, randn_like
from unistep.objectives.base import Loss, Objective, ObjectiveConfig, expects
from unistep.objectives.imm import check_groups

Features = Callable[[Tensor], Tensor | Sequence[Tensor]]
"""``features(x)``: one or more feature maps of ``[b, *shape]``, each ``[b, c]`` or ``[b, locations, c]``."""

APART = 1e6
"""A distance beyond all others, in units of the mean distance: such a pair does not interact."""


@dataclass(frozen=True, kw_only=True)
class DriftingConfig(ObjectiveConfig):
    """Train a one-step generator by drifting its samples towards the data."""

    trains = ConsistencyModel
    starts_from_teacher = False
    papers = ("deng2026drifting",)

    group: int = 64
    """Examples that drift together, each with one generated sample; a batch and every share must be a multiple."""
    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    """Widths of the kernel, in units of the mean distance; the drifts of all are added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 2:
            raise ValueError(f"group must be at least 2, so that samples repel one another, got {self.group}; try 64")
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"temperatures must be positive numbers, got {self.temperatures}; try (0.02, 0.05, 0.2)")

    @property
    def trained_steps(self) -> tuple[int, ...]:
        """One: of the generator only the jump from the largest time is trained."""
        return (1,)

    def build(self, student: Map, teacher: Denoiser | None) -> Drifting:
        """The objective on the signals themselves; it uses no teacher."""
        del teacher
        student = expects(student, ConsistencyModel)
        return Drifting(student, self)


class Drifting(Objective):
    r"""Move each generated sample one step along a field that attracts it to data and repels it from its like.

    With :math:`x = f_\theta(\sigma_T z, T)`, features :math:`\phi` (the signal itself without) in units :math:`S` of
    their mean distance, and the field :math:`V` of each temperature in units :math:`\lambda_\tau` of its own size,

    .. math:: L = \sum_\phi E\left[\tfrac1C\Big\lVert \tilde\phi(x) -
              \mathrm{sg}\Big(\tilde\phi(x) + \sum_\tau \tfrac{1}{\lambda_\tau} V_\tau(\tilde\phi(x))\Big)
              \Big\rVert^2\right], \qquad \tilde\phi = \phi / S .

    The value of the loss is not informative, because each term has unit size; ``drifting/field`` in the logs is the
    size that falls. Groups of consecutive examples are independent, units included, so that the number of processes
    does not matter. Each example's sample has the example's condition, and pairs with different conditions do not
    interact: choose groups with many examples of each. Guidance, for which the paper trains the network on a range of
    weights, is not implemented.

    Args:
        student: The generator: a consistency model, of which only the jump from the largest time is trained.
        config: Its options.
        features: Where distances are measured; a module is frozen and kept in evaluation mode.

    References:
        Deng et al. 2026, arXiv 2602.04770, equations 6 and 14, algorithms 1 and 2, appendices A.5 and A.6.
    """

    student: ConsistencyModel

    def __init__(self, student: ConsistencyModel, config: DriftingConfig, features: Features | None = None) -> None:
        frozen = features if isinstance(features, nn.Module) else None
        super().__init__(student, frozen)
        self.config = config
        self._features = None if frozen is not None else features

    def features(self, x: Float[Tensor, "b *shape"]) -> list[Float[Tensor, "b l c"]]:
        """Feature maps of a signal; the signal itself if no features were given."""
        extract = self._features if self.teacher is None else self.teacher
        found = x.flatten(1) if extract is None else extract(x)
        maps = [found] if isinstance(found, Tensor) else list(found)
        return [v[:, None] if v.ndim == 2 else v for v in maps]

    def forward(
        self, x0: Float[Tensor, "b *shape"], condition: Condition, *, generator: Randomness, progress: float
    ) -> Loss:
        """Loss of a batch; see :class:`Objective`.

        Raises:
            ValueError: If the batch is not a multiple of the group.
        """
        del progress
        check_groups(len(x0), self.config.group, "group")
        path = self.student.path
        t = x0.new_full((len(x0),), path.t_max)
        noise = randn_like(x0, generator)
        x = self.student(expand_to(path.sigma(t), x0) * noise, t, None, condition)
        with torch.no_grad():
            wanted = self.features(x0)
        apart = self.apart(condition, x0)
        total, sizes = x.new_zeros(len(x)), []
        for phi, phi_data in zip(self.features(x), wanted, strict=True):
            loss, size = self.feature_loss(phi, phi_data, apart)
            total = total + loss
            sizes.append(size)
        return Loss(total, {"drifting/field": torch.stack(sizes).mean()})

    def apart(self, condition: Condition, x0: Tensor) -> Bool[Tensor, "g m m"]:
        """Which pairs of a group differ in their condition."""
        apart = torch.zeros(len(x0), self.config.group, dtype=torch.bool, device=x0.device)
        apart = rearrange(apart, "(g i) j -> g i j", i=self.config.group)
        for value in differing(condition).values():
            groups = [value.select(slice(i, i + self.config.group)) for i in range(0, len(x0), self.config.group)]
            apart = apart | ~torch.stack([group.matches() for group in groups])
        return apart

    def feature_loss(
        self, phi: Float[Tensor, "b l c"], phi_data: Float[Tensor, "b l c"], apart: Bool[Tensor, "g m m"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, ""]]:
        """Loss of each example in one feature map, and the size of the field before it is normalised.

        The paper's appendix sums over the locations of a map; here they are averaged, so that maps of all sizes count
        equally.
        """
        # Autocast would multiply in bfloat16, whose rounding is larger than a drift.
        with torch.autocast(phi.device.type, enabled=False):
            precise = torch.promote_types(phi.dtype, torch.float32)
            x, y = (rearrange(v.to(precise), "(g m) l c -> g l m c", m=self.config.group) for v in (phi, phi_data))
            unit, drift, size = self.drift(x.detach(), y.detach(), apart[:, None])
            # The difference of the two copies first: it is zero, and the drift keeps its digits.
            loss = ((x - x.detach()) / unit - drift).square().mean(dim=-1)
            return rearrange(loss, "g l m -> (g m) l").mean(dim=1), size

    def drift(
        self, x: Float[Tensor, "g l m c"], y: Float[Tensor, "g l m c"], apart: Bool[Tensor, "g 1 m m"]
    ) -> tuple[Float[Tensor, "g 1 1 1"], Float[Tensor, "g l m c"], Float[Tensor, ""]]:
        """Unit of a feature, the sum over temperatures of its normalised drift, and the mean size of that drift."""
        # The plain differences: the faster expansion into products loses the digits of close points.
        to_data, to_like = (torch.cdist(x, v, compute_mode="donot_use_mm_for_euclid_dist") for v in (y, x))
        near = (~apart).expand_as(to_data)
        pairs = 2 * near.sum(dim=(1, 2, 3), keepdim=True)
        mean = (((to_data + to_like) * near).sum(dim=(1, 2, 3), keepdim=True) / pairs).clamp(min=1e-6)
        itself = torch.eye(x.shape[2], dtype=torch.bool, device=x.device)
        to_data = torch.where(apart, APART, to_data / mean)
        to_like = torch.where(apart | itself, APART, to_like / mean)
        unit = mean / x.shape[-1] ** 0.5
        total, sizes = torch.zeros_like(x), []
        for temperature in self.config.temperatures:
            field = drifting_field(to_data, to_like, y / unit, x / unit, temperature)
            size = field.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            total = total + field / size.clamp(min=1e-6)
            sizes.append(size.mean())
        return unit, total, torch.stack(sizes).mean()


def drifting_field(
    to_positive: Float[Tensor, "*n m p"],
    to_negative: Float[Tensor, "*n m q"],
    positive: Float[Tensor, "*n p c"],
    negative: Float[Tensor, "*n q c"],
    temperature: float,
) -> Float[Tensor, "*n m c"]:
    r"""The field at ``m`` points, given their distances to the samples that attract and to those that repel.

    With :math:`A` the geometric mean of two softmaxes of :math:`-\mathrm{dist}/\tau`, over samples and over points,

    .. math:: V_i = \sum_{j,k} A_{ij} A_{ik} (y^+_j - y^-_k),

    so that swapping the two sets of samples turns its sign.

    Args:
        to_positive: Distances to the positive samples.
        to_negative: Distances to the negative samples; infinite (or huge) ones do not count.
        positive: Samples that attract.
        negative: Samples that repel.
        temperature: :math:`\tau`.

    References:
        Deng et al. 2026, arXiv 2602.04770, equation 11 and algorithm 2.
    """
    logits = -torch.cat([to_positive, to_negative], dim=-1) / temperature
    weights = (logits.softmax(dim=-1) * logits.softmax(dim=-2)).sqrt()
    attract, repel = weights.split([to_positive.shape[-1], to_negative.shape[-1]], dim=-1)
    pull = (attract * repel.sum(dim=-1, keepdim=True)) @ positive
    return pull - (repel * attract.sum(dim=-1, keepdim=True)) @ negative
