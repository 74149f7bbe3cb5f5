"""An adversarial term: a discriminator, trained beside the student, that separates its samples from real signals."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from unistep.core.condition import Condition
from unistep.core.flowmap import Denoiser, Map
from unistep.objectives.base import Objective, ObjectiveConfig, ParamGroup
from unistep.objectives.materials import Materials
from unistep.optimizers import AdamConfig

RATIO_RANGE = (0.01, 10.0)
"""Bounds of the adaptive weight, those of the authors of consistency trajectory models."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """An adversarial term beside a consistency term; off without a weight."""

    weight: float = 0.0
    """Weight of the term in the student's loss; 0 leaves it out, 1 is the paper's."""
    balance: Literal["adaptive", "fixed"] = "adaptive"
    """``adaptive`` multiplies the weight by the ratio of the two gradients in the last layer; not with FSDP2."""
    start: float = 0.0
    """Share of the training from which the student gets the term; the discriminator learns from the first step."""
    kind: Literal["logistic", "hinge"] = "logistic"
    """Loss: the paper's logarithms (for the student in the form that does not saturate), or the hinge."""
    lr: float = 1e-3
    """Peak learning rate of the discriminator, which has a parameter group of its own."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the discriminator at each resolution, finest first."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: Naming the field, its value and what was expected.
        """
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"adversarial.weight must be a number from 0 on, got {self.weight}; 0 leaves it out")
        if not 0 <= self.start <= 1:
            raise ValueError(f"adversarial.start is a share of the training, 0 to 1, got {self.start}")
        for name, choices in (("balance", ("adaptive", "fixed")), ("kind", ("logistic", "hinge"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"adversarial.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"adversarial.lr must be positive, got {self.lr}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"adversarial.widths must be positive numbers, got {self.widths}; try 32 64 128")


@dataclass(frozen=True, kw_only=True)
class AdversarialMethodConfig(ObjectiveConfig):
    """What the methods that can have an adversarial term have in common."""

    adversarial: AdversarialConfig = AdversarialConfig()
    """An adversarial term: its ``weight`` (0 leaves it out), ``balance``, ``start``, ``kind``, ``lr``, ``widths``."""

    @abstractmethod
    def build(self, student: Map, teacher: Denoiser | None, discriminator: nn.Module | None = None) -> Objective:
        """The objective, with a discriminator ``(x, condition) -> [b]`` if there is an adversarial term.

        Raises:
            ValueError: If the objective needs a teacher or a discriminator and there is none.
        """

    def build_in_run(self, student: Map, teacher: Denoiser | None, materials: Materials) -> Objective:
        """The objective, with a fresh discriminator if there is an adversarial term."""
        with_one = self.adversarial.weight > 0
        return self.build(student, teacher, materials.discriminator(self.adversarial.widths) if with_one else None)

    def adversary(self, discriminator: nn.Module | None) -> Adversary | None:
        """The discriminator with its losses; ``None`` if there is no such term.

        Raises:
            ValueError: If there is such a term and no discriminator.
        """
        if self.adversarial.weight == 0:
            return None
        if discriminator is None:
            raise ValueError("an adversarial term needs a discriminator; give one, or set adversarial.weight to 0")
        return Adversary(discriminator, self.adversarial)


class Adversary(nn.Module):
    r"""The two sides of an adversarial loss, each with its own gradient, so that one backward pass trains both.

    With :math:`d` the discriminator, ``fake`` :math:`\hat x` and ``real`` :math:`x`, the logistic kind is

    .. math:: L_d = -\ln\mathrm{sigmoid}\,d(x) - \ln(1 - \mathrm{sigmoid}\,d(\mathrm{sg}\,\hat x)), \qquad
              L_\theta = -\ln\mathrm{sigmoid}\,d_{\mathrm{sg}}(\hat x)

    and the hinge :math:`L_d = [1 - d(x)]_+ + [1 + d(\mathrm{sg}\,\hat x)]_+` with
    :math:`L_\theta = -d_\mathrm{sg}(\hat x)`. The gradient of :math:`L_\theta` stops at the discriminator's weights,
    that of :math:`L_d` at the student's prediction.

    Args:
        net: The discriminator, ``(x, condition) -> [b]``.
        config: Options of the term.

    References:
        Kim et al. 2024, arXiv 2310.02279, section 3.3, the adversarial loss; Goodfellow et al. 2014, arXiv 1406.2661,
        section 3, for the form that does not saturate.
    """

    def __init__(self, net: nn.Module, config: AdversarialConfig) -> None:
        super().__init__()
        self.net = net
        self.config = config

    def forward(
        self, fake: Float[Tensor, "b *shape"], real: Float[Tensor, "b *shape"], condition: Condition
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Loss of the student and loss of the discriminator, for each example, in float32."""
        frozen = {name: p.detach() for name, p in self.net.named_parameters()}
        on_fake_student = functional_call(self.net, frozen, (fake, condition)).float()
        on_fake = self.net(fake.detach(), condition).float()
        on_real = self.net(real.detach(), condition).float()
        if self.config.kind == "hinge":
            return -on_fake_student, F.relu(1 - on_real) + F.relu(1 + on_fake)
        return F.softplus(-on_fake_student), F.softplus(-on_real) + F.softplus(on_fake)

    def terms(
        self,
        loss: Float[Tensor, " b"],
        fake: Float[Tensor, "b *shape"],
        real: Float[Tensor, "b *shape"],
        condition: Condition,
        net: nn.Module,
        progress: float,
    ) -> tuple[Float[Tensor, " b"], dict[str, Tensor]]:
        r"""What is added to the loss for both sides, and what to log.

        .. math:: \lambda\,\frac{\lVert\nabla_w L\rVert}{\lVert\nabla_w L_\theta\rVert}\, L_\theta + L_d

        Args:
            loss: The consistency loss, which sets the scale.
            fake: The student's predictions, with their graph.
            real: What they should look like.
            condition: Conditions of the batch, for both.
            net: The student's network, whose last weights :math:`w` are.
            progress: Share of the training that is done.
        """
        student, itself = self(fake, real, condition)
        weight = torch.zeros(()) if progress < self.config.start else torch.tensor(self.config.weight)
        if self.config.balance == "adaptive" and weight > 0 and torch.is_grad_enabled():
            weight = weight.to(loss.device) * gradient_ratio(loss, student, net).clamp(*RATIO_RANGE)
        logs = {
            "adversarial/student": student.detach().mean(),
            "adversarial/discriminator": itself.detach().mean(),
            "adversarial/weight": weight.detach(),
        }
        return weight.to(loss) * student + itself, logs

    def param_group(self) -> ParamGroup:
        """The discriminator with its optimizer: Adam with a short memory, as adversarial training has it."""
        optimizer = AdamConfig(lr=self.config.lr, betas=(0.5, 0.99))
        return ParamGroup(name="discriminator", module=self, optimizer=optimizer)


def gradient_ratio(first: Float[Tensor, " b"], second: Float[Tensor, " b"], net: nn.Module) -> Float[Tensor, ""]:
    r"""The factor that gives the second loss a gradient in the last layer as large as that of the first.

    .. math:: \lVert\nabla_w L_1\rVert / \lVert\nabla_w L_2\rVert

    Both gradients are those of the whole batch, over all processes; of an accumulated batch each part has its own.

    Args:
        first: A loss of each example.
        second: The loss that is to be scaled.
        net: The network whose last weight matrix (or kernel) :math:`w` is.

    Raises:
        ValueError: If the network has no weight matrix, or its weights are sharded.

    References:
        Esser et al. 2021, arXiv 2012.09841, equation 7.
    """
    last = last_weight(net)
    if isinstance(last, DTensor):
        raise ValueError("balance 'adaptive' needs the network whole on each process; use balance 'fixed' with fsdp")
    gradients = [torch.autograd.grad(loss.mean(), last, retain_graph=True)[0].float() for loss in (first, second)]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        for gradient in gradients:
            dist.all_reduce(gradient)
    return gradients[0].norm() / gradients[1].norm().clamp(min=1e-4)


def last_weight(net: nn.Module) -> nn.Parameter:
    """The last weight matrix (or kernel) that a network registers: that of its output layer.

    Raises:
        ValueError: If it has none.
    """
    weights = [p for p in net.parameters() if p.ndim > 1]
    if not weights:
        raise ValueError("balance 'adaptive' needs a network with a weight matrix; use balance 'fixed'")
    return weights[-1]
